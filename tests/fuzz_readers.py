"""Feeds damaged files to everything that reads what strangers may have written.

    python tests/fuzz_readers.py --cases=1000000 --seed=0 --keep=tests/fuzz_cases [--write=docs/reliability.md]

A case is a function of (kind, seed, number): valid content, damaged at random, on the level of its bytes and
below its compression, checksums and JSON.  What is read must be a valid record, or refused by an `InputError` of one
line that names the file; no crash, no other exception, no warning, no ten seconds of work, no gibibyte of memory.
Cases run in child processes, so that a crash in a library is caught too.  `--keep` writes the files of failed cases.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import functools
import gzip
import io
import json
import multiprocessing
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from report_runs import STEP, make_run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.document import write_between
from mixup_jax.config import Config, from_dict, to_dict
from mixup_jax.errors import InputError
from mixup_jax.report.runs import load_run
from mixup_jax.runs.files import read_object
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.pictures import Pictures, save_pictures
from mixup_jax.runs.records import Predictions, save_predictions

SECONDS = 10.0
"""Of the processor, so that a busy machine finds nothing."""
MEMORY = 6 << 30
BATCH = 500
ODD_BYTES = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\x00",
    b"\n",
    b"\r",
    b",",
    b'"',
    b"[",
    b"{",
)
ODD_VALUES = (
    *(None, True, -1, 0, 1e308, -1e-320, 2**31, 2**63, 10**30, "", "x", "\x00", "\x1b[2J", "../../x", "/etc/passwd"),
    *("CON", "a" * 300, "\ud800", "\u202e", "\uff0f", "{{ 7*7 }}", "<script>", "$x$", [], {}, [[]], {"": {}}),
)


@functools.cache
def originals() -> dict[str, dict[str, bytes]]:
    """Valid content by kind, as the files of a folder."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(-1, 4, 6)
    folder = pathlib.Path(tempfile.mkdtemp())
    save_predictions(folder / "p.npz", Predictions(logits, labels, {"dataset": "x", "split": "test", "step": 3}))
    np.save(folder / "p.npy", logits)
    np.save(folder / "labels.npy", labels)
    names = [f"logit_{number}" for number in range(4)]
    rows = [",".join(map(str, (label, *row))) for label, row in zip(labels.tolist(), logits.tolist(), strict=True)]
    (folder / "p.csv").write_text("\n".join([",".join(["label", *names]), *rows, ""]))
    parquet.write_table(arrow.table({"label": labels, **dict(zip(names, logits.T, strict=True))}), folder / "p.parquet")
    (folder / "p.csv.gz").write_bytes(gzip.compress((folder / "p.csv").read_bytes(), mtime=0))
    lists = arrow.table({"label": labels, "logits": list(logits)})
    with arrow.OSFile(str(folder / "p.arrow"), "wb") as file, arrow.ipc.new_stream(file, lists.schema) as stream:
        stream.write_table(lists)
    shutil.copy(pathlib.Path(__file__).parent / "torch_files" / "dict.pt", folder / "p.pt")
    single = ("npz", "csv", "csv.gz", "parquet", "arrow", "pt")
    kinds = {kind: [f"p.{kind}"] for kind in single} | {"npy": ["p.npy", "labels.npy"]}
    found = {kind: {name: (folder / name).read_bytes() for name in files} for kind, files in kinds.items()}
    found["json"] = {"config.json": json.dumps(to_dict(Config())).encode()}
    make_run(folder / "run", n=12, ood=("mnist",))
    rows, images = np.arange(6), np.zeros((6, 4, 4, 1), np.uint8)
    sets = np.array(["fashion_mnist"] * 3 + ["mnist"] * 3)
    save_pictures(folder / "run", Pictures(STEP, sets, rows, rows % 10, images))
    paths = [path for path in (folder / "run").rglob("*") if path.is_file() and "validation" not in path.name]
    found["run"] = {str(path.relative_to(folder / "run")): path.read_bytes() for path in paths}
    shutil.rmtree(folder)
    return found


def read(kind: str, folder: pathlib.Path) -> None:
    """Reads a case as the commands do; raises AssertionError if what comes out is not what was promised."""
    if kind == "run":
        assert load_run(folder).evaluation["step"] >= 0
    elif kind == "json":
        assert isinstance(from_dict(read_object(folder / "config.json")), Config)
    else:
        labels = folder / "labels.npy" if kind == "npy" else None
        record = load_predictions(folder / f"p.{kind}", labels=labels, say=lambda line: None)
        assert record.labels.shape == record.logits.shape[:1]
        assert record.labels.min() >= -1
        assert not np.isnan(record.logits).any()


def damaged(kind: str, chance: random.Random) -> dict[str, bytes]:
    """Returns the files of a case."""
    files = dict(originals()[kind])
    for name in chance.sample(sorted(files), k=1 if chance.random() < 0.8 else len(files)):
        files[name] = _damaged_file(name, files[name], chance)
    return files


def _damaged_file(name: str, content: bytes, chance: random.Random) -> bytes:
    inner = chance.random() < 0.6
    if inner and name.endswith((".npz", ".pt")):
        return _damaged_archive(content, chance)
    if inner and name.endswith(".gz"):
        return gzip.compress(_damaged_bytes(gzip.decompress(content), chance), mtime=0)
    if inner and name.endswith(".json"):
        return _damaged_json(content, chance)
    return _damaged_bytes(content, chance)


def _damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        place = chance.randrange(len(changed) + 1)
        end = min(len(changed), place + chance.choice((1, 1, 2, 4, 16)))
        match chance.randrange(7):
            case 0:
                del changed[chance.randrange(len(changed) + 1) :]
            case 1:
                del changed[place:end]
            case 2:
                changed[place:place] = chance.randbytes(chance.randrange(1, 6))
            case 3:
                changed[place:place] = changed[place:end] * chance.choice((1, 2, 50))
            case 4:
                odd = chance.choice(ODD_BYTES)
                changed[place : place + len(odd)] = odd
            case 5:
                changed[place:end] = chance.randbytes(end - place)
            case 6 if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _damaged_archive(content: bytes, chance: random.Random) -> bytes:
    """Damages a member of a ZIP below its compression and checksum, its name, or its like."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        members = old.namelist()
        chosen = chance.choice(members)
        for name in members:
            data = old.read(name)
            if name == chosen:
                action = chance.random()
                if action < 0.1:
                    continue
                if action < 0.15:
                    name = chance.choice(("../logits.npy", "logits.npy", "meta.npy", "\x1b\n.npy", "x" * 500))
                elif data.startswith(b"\x93NUMPY") and chance.random() < 0.5:
                    data = _damaged_header(data, chance)
                elif name == "meta.npy" and chance.random() < 0.5:
                    data = _array(
                        np.array(_damaged_json(b'{"dataset": "x", "split": "test"}', chance).decode("utf-8", "replace"))
                    )
                else:
                    data = _damaged_bytes(data, chance)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # zipfile warns of a repeated name
                new.writestr(name, data, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)))
    return buffer.getvalue()


def _array(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def _damaged_header(data: bytes, chance: random.Random) -> bytes:
    """Changes what an `.npy` says of itself, and keeps the length of its header."""
    size = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + size].decode("latin1").rstrip()
    old, new = chance.choice(
        (
            *(
                ("<f4", kind)
                for kind in ("<f8", "<f2", ">f4", "<f16", "|O", "<c8", "<i4", "|V0", "<U1", "|S4", "<M8[s]", "|b1")
            ),
            *(("<i4", kind) for kind in ("<i8", "|u1", "<u8", "|O", "<f4", "|b1", "|V4", "<m8")),
            *(("(6,", f"({n},") for n in ("-6", "0", "3", "600000000000", "10**9", "True", "6, 1", str(2**64), "1e3")),
            ("False", "True"),
            ("'shape'", "'shapf'"),
            ("{", "["),
            ("}", ", 'x': 1}"),
            ("(", "(" * 60),
        )
    )
    return (
        data[:10] + header.replace(old, new, 1).encode("latin1").ljust(size - 1)[: size - 1] + b"\n" + data[10 + size :]
    )


def _damaged_json(content: bytes, chance: random.Random) -> bytes:
    """Puts odd values, keys and depths into JSON."""
    value = copy.deepcopy(json.loads(content))
    for _ in range(chance.choice((1, 1, 1, 3))):
        parent = value
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(parent[key], dict | list) and parent[key] and chance.random() < 0.8:
                parent = parent[key]
                continue
            odd = copy.deepcopy(chance.choice(ODD_VALUES))
            match chance.randrange(5):
                case 0:
                    del parent[key]
                case 1 if isinstance(parent, dict):
                    parent[str(odd)] = parent.pop(key)
                case 2:
                    for _ in range(chance.choice((3, 39, 60, 3000))):
                        parent[key] = [parent[key]]
                case 3 if isinstance(parent[key], int | float):
                    parent[key] = parent[key] * chance.choice((-1, 2, 1e30, 1.0000001))
                case _:
                    parent[key] = odd
            break
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 100_000


def failure(kind: str, seed: int, number: int) -> str | None:
    """Runs a case and says what is wrong with how it was taken, if anything is."""
    files = damaged(kind, random.Random(f"{kind} {seed} {number}"))
    folder = pathlib.Path(tempfile.mkdtemp(dir=_quick_folder()))
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        # For a wrong value of a setting, the message names the key and not the file.
        return failure_of(functools.partial(read, kind, folder), "" if kind == "json" else str(folder))
    finally:
        shutil.rmtree(folder)


def failure_of(action: Callable[[], None], names: str) -> str | None:
    """Says what is wrong with how something was read, if anything is; `names` must stand in a refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            action()
    except InputError as error:
        message = str(error)
        if isinstance(error.__cause__, MemoryError):
            return f"memory: {message}"
        if not message.isprintable() or len(message) > 1999:
            return f"no short line of printable text: {message[:600]!r}"
        return None if names in message else f"does not name {names}: {message}"
    except BaseException:
        return traceback.format_exc()
    return None


def _quick_folder() -> str | None:
    return "/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None


def _run_batch(
    kind: str, seed: int, numbers: range, at: multiprocessing.sharedctypes.Synchronized, found: multiprocessing.Queue
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _too_slow)
    for number in numbers:
        at.value = number
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        if wrong := failure(kind, seed, number):
            found.put((number, wrong))
        signal.setitimer(signal.ITIMER_PROF, 0)
    found.put(None)


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"it took more than {SECONDS:g} seconds")


def fuzz(kind: str, seed: int, cases: int) -> list[tuple[int, str]]:
    """Runs the cases 0 to `cases` - 1 of a kind in child processes; returns what is wrong with them."""
    wrong = []
    context = multiprocessing.get_context("fork")
    first = 0
    while first < cases:
        last = min(cases, first + BATCH)
        at, found = context.Value("q", first), context.Queue()
        child = context.Process(target=_run_batch, args=(kind, seed, range(first, last), at, found))
        child.start()
        finished = False
        while not finished:
            try:
                answer = found.get(timeout=0.5)
                finished = answer is None
                wrong += [answer] if answer else []
            except Exception:
                if not child.is_alive() and found.empty():
                    break
        child.join()
        if not finished:
            wrong.append((at.value, f"the process died with code {child.exitcode}"))
        first = last if finished else at.value + 1
    return wrong


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=7000, help="in all, shared evenly by the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(originals()))
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the files of failed cases")
    parser.add_argument("--write", type=pathlib.Path, help="document whose report is replaced")
    arguments = parser.parse_args()
    kinds, start, wrongs = arguments.kinds.split(","), time.monotonic(), {}
    for kind in kinds:
        wrong = fuzz(kind, arguments.seed, arguments.cases // len(kinds))
        wrongs[kind] = len(wrong)
        print(
            f"{kind}: {arguments.cases // len(kinds):,} cases, {len(wrong)} wrong, {time.monotonic() - start:.0f} s",
            flush=True,
        )
        for number, reason in wrong[:20]:
            print(f"  {kind} {arguments.seed} {number}: {reason}", flush=True)
            if arguments.keep:
                for name, content in damaged(kind, random.Random(f"{kind} {arguments.seed} {number}")).items():
                    path = arguments.keep / f"{kind}-{arguments.seed}-{number}" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
    if arguments.write:
        write_between(arguments.write, "fuzz", report(wrongs, arguments.cases // len(kinds), arguments.seed))
    return 1 if any(wrongs.values()) else 0


def report(wrongs: dict[str, int], cases: int, seed: int) -> str:
    """Returns what was found as Markdown."""
    lines = [f"{cases * len(wrongs):,} damaged files on {datetime.date.today()}, seed {seed}:", ""]
    lines += ["| kind | files | wrong |", "| --- | ---: | ---: |"]
    return "\n".join([*lines, *(f"| {kind} | {cases:,} | {wrong} |" for kind, wrong in wrongs.items())]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
