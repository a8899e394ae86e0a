"""Gives every command random flags, values, paths and files, in this process.

    python tests/fuzz_commands.py --cases=100000 --seed=0 [--minutes=15] [--write=docs/reliability.md]

A case is a function of (seed, number): a command line for a folder of valid and damaged files.  No exception may
leave a command; its exit code must be one of those of docs/errors.md; a refusal is one line and writes nothing; and no
output holds a control character or one that changes the direction of text.  Work that takes long (a training, a
prediction, a download, a compilation, the drawing of a report) ends where it would begin: what comes before it is run.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
from error_cases import parquet_of_text, pets, write_files

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import mixup_jax.checkpoints
import mixup_jax.compare
import mixup_jax.compile_ahead
import mixup_jax.data.__main__
import mixup_jax.evaluate
import mixup_jax.export
import mixup_jax.main
import mixup_jax.predict
import mixup_jax.report.__main__
import mixup_jax.report.evidence
import mixup_jax.sweep
from benchmarks.document import write_between
from mixup_jax.command import run_command
from mixup_jax.config import Config, to_dict
from mixup_jax.devices.mesh import device_mesh, replicate
from mixup_jax.state import TrainState
from mixup_jax.store.checkpoint import Checkpoints

SECONDS = 30
MODULES = {
    "main": mixup_jax.main,
    "evaluate": mixup_jax.evaluate,
    "compare": mixup_jax.compare,
    "report": mixup_jax.report.__main__,
    "evidence": mixup_jax.report.evidence,
    "sweep": mixup_jax.sweep,
    "checkpoints": mixup_jax.checkpoints,
    "compile_ahead": mixup_jax.compile_ahead,
    "data": mixup_jax.data.__main__,
    "predict": mixup_jax.predict,
    "export": mixup_jax.export,
}
CODES = {"checkpoints": (0, 1, 2, 3), "evidence": (0, 1, 2, 3), "sweep": (0, 1, 2, 3)}
HOSTILE = ("\x1b[31mred\x1b[2J", "a\u202egpj.exe", "line\nerror: forged", "tab\tx", "\u2066iso", "nul\u200b", "\x07")
"""Names that would command a terminal, turn text round, or forge a line."""

DOORS = {
    "main": ["--config", "--workdir", "--data_dir", "--distributed", "--coordinator", "--processes", "--process"],
    "evaluate": [
        *("--predictions", "--labels", "--validation", "--validation_labels", "--ood", "--probabilities", "--logits"),
        *("--logits_key", "--labels_key", "--flatten", "--ignore_label", "--scores", "--figure"),
        *(
            "--all_intervals",
            "--features",
            "--extra",
            "--posthoc",
            "--output",
            "--max_gib",
            "--workdir",
            "--datasets",
            "--checkpoint",
        ),
        *("--data_dir", "--odin", "--force", "--mc_dropout", "--batch_norm_examples", "--save_as", "--ensemble"),
        *("--distributed", "--coordinator", "--processes", "--process"),
    ],
    "compare": ["", "", "", "--validation", "--ood", "--probabilities", "--logits", "--output", "--jobs", "--style"],
    "report": ["", "", "", "--output", "--jobs", "--style"],
    "evidence": ["", "", "--check"],
    "sweep": ["--grid", "--output", "--dry_run", "--data_dir", "--jobs"],
    "checkpoints": ["", ""],
    "compile_ahead": ["--config", "--topology", "--steps", "--output", "--examples", "--vocabulary", "--strict"],
    "data": ["", "", "--data_dir", "--list"],
    "predict": ["", "", "--workdir", "--output", "--checkpoint", "--data_dir"],
    "export": ["--workdir", "--output", "--checkpoint"],
}
START = {
    "main": [["--config=configs/quickstart.py:mixup", "--workdir=new", "--data_dir=data"]],
    "evaluate": [
        ["--predictions=test.npz"],
        ["--predictions=logits.npy", "--labels=labels.npy"],
        ["--predictions=test.npz", "--validation=validation.npz", "--ood=noise.npz"],
        ["--scores=scores.npy", "--ood=scores.npy", "--figure=new.png"],
        ["--workdir=trained", "--data_dir=data"],
        ["--ensemble=run,run2", "--save_as=new"],
    ],
    "compare": [
        ["test.npz"],
        ["a=test.npz", "run", "--validation=a=validation.npz", "--ood=n:a=noise.npz", "--output=new"],
    ],
    "report": [["run"], ["run", "run2", "--output=new"]],
    "evidence": [["document.md"]],
    "sweep": [["--grid=configs/grids/mr.py", "--output=new"]],
    "checkpoints": [["trained"]],
    "compile_ahead": [["--config=configs/quickstart.py", "--topology=cpu:1", "--output=new.json"]],
    "data": [["folder:pets", "--data_dir=new"], ["arrays:scans.npz", "--data_dir=new"]],
    "predict": [["--workdir=trained", "pets"], ["--workdir=trained", "scans.npz", "--output=e.csv"]],
    "export": [["--workdir=trained"], ["--workdir=trained", "--output=new", "--checkpoint=best"]],
}
"""Command lines that are right, which most cases begin with."""

SWITCHES = {"--distributed", "--probabilities", "--logits", "--all_intervals", "--odin", "--force", "--check"}
SWITCHES |= {"--flatten", "--features", "--dry_run", "--strict", "--list"}
FITTING = {
    "--config": ["configs/quickstart.py", "configs/mr.py:erm", "quickstart:mixup", "configs", "own.py", "fifo.py"],
    "--grid": ["configs/grids/mr.py", "configs/quickstart.py", "own.py", "configs", "fifo.py"],
    "--topology": ["cpu:1", "cpu:8", "cuda:1", "v5e:4x4", "cpu:", "cpu:99999999999", "v5e:0x0", "cpu:-1", "cpu:²"],
    "--steps": ["train", "eval", "train,eval", "train,"],
    "--checkpoint": ["last", "best", "10", "20", "007", "٣", "99999999999999999999"],
    "--datasets": ["test", "mnist,gaussian_noise", "folder:pets", "folder:", "arrays:scans.npz", "test,test", "hf:x"],
    "--extra": ["classes", "conformal,refinement", "groups", "recalibration", "calibration_test,calibration_test"],
    "--posthoc": ["isotonic", "vector_scaling,isotonic", "isotonic,isotonic"],
    "--coordinator": ["10.0.0.1:1", "[::1]:80", ":", "a:0", "a:99999", "a:²"],
    "--logits_key": ["logits", "labels", "x"],
    "--ignore_label": ["0", "-100", "255"],
    "--figure": ["new.png", "new.svg", "new", "dir.json"],
    "--output": ["new.json", "e.tex", "e.md", "e.csv", "out/e.json", "test.npz/e.json", "empty/e.json", "dir.json"],
}
WORDS = [
    *("", "0", "1", "-1", "2", "1e20", "nan", "inf", "-inf", "1e-9", "9" * 30, "True", "None", "[]", "()", "(1,", "{}"),
    *("x", "x" * 300, "x" * 5000, "a,b", "=", "==", ":", ",", "--", "-", "~", "~nobody/x", "*", "%s", "%(default)s"),
    *("gs://bucket/x", "S3://b", "file:///tmp/x", "http://x", "..", "/", "/dev/null", "/dev/full", "/proc/self/mem"),
    *("é", "配列", "\udcff", "٣", "²", "1_000", "0x10", "1e400", "'a'", '"', "$HOME", "`id`", *HOSTILE),
]
OWN = "from mixup_jax.grid import PlannedRun\ndef get_grid():\n    return [PlannedRun('a', 'own.py')]\n"


class AcceptedError(Exception):
    """The long work was about to begin: everything was found right."""


def keys_of(record: type, prefix: str = "") -> Iterator[str]:
    """Yields the full names of the settings of a config."""
    for field, value in zip(fields(record), vars(record()).values(), strict=True):
        if is_dataclass(value):
            yield from keys_of(type(value), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


KEYS = list(keys_of(Config))
GROUPS = ["data", "model", "method", "optimizer"]


def write_everything(folder: Path) -> None:
    """Writes the files of tests/error_cases.py, and such as a careless or a hostile person has."""
    write_files(folder)
    shutil.copytree(folder / "run", folder / "run2")
    rng = np.random.default_rng(0)
    with contextlib.chdir(folder):
        Path("home").mkdir()
        np.save("labels.npy", rng.integers(0, 4, 60))
        parquet_of_text()
        pets("pets/cat", "pets/dog")
        np.save("scores.npy", rng.uniform(size=60))
        np.savez("scans.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
        shares = rng.dirichlet(np.ones(4), 60)
        for name, numbers in {"shares": shares, "percent": 100 * shares, "a,b": shares * 9 - 3, "x=y": -shares}.items():
            np.savez(f"{name}.npz", logits=numbers, labels=rng.integers(0, 4, 60))
        for number, name in enumerate(HOSTILE):
            shutil.copy("test.npz", f"{name}.npz")
            if number < 3:
                shutil.copytree("run", f"{name}.run")
                Path(f"{name}.md").write_text("<!-- methods run: ece_15 -->\n<!-- end -->\n")
        for suffix in ("npz", "npy", "csv", "pt", "json", "py"):
            os.mkfifo(f"fifo.{suffix}")
            Path(f"dir.{suffix}").mkdir()
            Path(f"none.{suffix}").symlink_to("nowhere")
            Path(f"loop.{suffix}").symlink_to(f"loop.{suffix}")
            Path(f"odd.{suffix}").write_bytes(rng.bytes(200))
        Path("t.csv").write_text("label,0,1\n1,-0.5,2\n0,3,1\n")
        Path("own.py").write_text(OWN)
        Path("document.md").write_text("<!-- methods .: accuracy -->\n<!-- end -->\n<!-- claims x -->\n<!-- end -->\n")
        (Path("cut") / "checkpoints" / "10").mkdir(parents=True)
        state = TrainState(jnp.int32(10), {"w": jnp.ones(3)}, {"m": jnp.ones(3)}, ({"v": jnp.arange(4.0)}, (), []))
        facts = {"config": to_dict(Config()), "total_steps": 20, "scores": {"validation_accuracy": 0.5}}
        with Checkpoints(Path("trained/checkpoints").absolute()) as checkpoints:
            checkpoints.save(replicate(device_mesh(), state), facts, facts["scores"])


def command_line(chance: random.Random, names: Sequence[str]) -> tuple[str, list[str]]:
    """Returns a command and its arguments, mostly right ones that something was done to."""
    door = chance.choice(list(DOORS))
    arguments = list(chance.choice(START[door])) if chance.random() < 0.85 else []
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        match chance.randrange(8):
            case 0 if arguments:
                del arguments[chance.randrange(len(arguments))]
            case 1 if arguments:
                place = chance.randrange(len(arguments))
                flag, equals, _ = arguments[place].partition("=")
                arguments[place] = f"{flag}={value_of(flag, chance, names)}" if equals else chance.choice(names)
            case 2 if arguments:
                place = chance.randrange(len(arguments))
                cut = chance.randrange(len(arguments[place]) + 1)
                arguments[place] = arguments[place][:cut] + chance.choice(WORDS)[:40] + arguments[place][cut:]
            case 3 if door in ("main", "compile_ahead"):
                arguments.append(setting(chance, names))
            case _:
                flag = chance.choice(DOORS[door] if chance.random() < 0.9 else ["--help", "--debug", "-h"])
                value = value_of(flag, chance, names)
                if flag in SWITCHES and chance.random() < 0.8:
                    arguments.append(flag)
                elif chance.random() < 0.1:
                    arguments += [flag, value]
                else:
                    arguments.append(f"{flag}={value}" if flag else value)
    return door, [argument.replace("\0", "") for argument in arguments]


def value_of(flag: str, chance: random.Random, names: Sequence[str]) -> str:
    """Returns a value for a flag: often one of its kind, or the name of a file, or anything."""
    if flag in FITTING and chance.random() < 0.5:
        return chance.choice(FITTING[flag])
    value = chance.choice(names) if chance.random() < 0.6 else chance.choice(WORDS)
    return f"{value},{chance.choice(names)}" if chance.random() < 0.1 else value


def setting(chance: random.Random, names: Sequence[str]) -> str:
    """Returns `--config.KEY=VALUE`."""
    key = chance.choice(KEYS) if chance.random() < 0.95 else chance.choice([*GROUPS, *WORDS])
    own = f"{chance.choice(('folder', 'arrays', 'table', 'tfds', 'hf'))}:{chance.choice([*names, '', '~', 'pets'])}"
    return f"--config.{key}={chance.choice([*WORDS, *WORDS, *names, *[own] * 20])}"


def state_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Returns what is in a folder: a number of each file that changes with it; folders that are empty do not count."""
    found = {}
    waiting = [str(folder)]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            facts = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                found[entry.path] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    return found


def accept(*_: Any, **__: Any) -> None:
    """Ends a case where long work would begin."""
    raise AcceptedError


@contextlib.contextmanager
def without_the_long_work(home: Path) -> Iterator[None]:
    """Ends commands where a training, a prediction, a download, a compilation or a drawing would begin."""
    with contextlib.ExitStack() as stack:
        for name in (
            *("mixup_jax.training.loop.prepare", "mixup_jax.evaluation.run.restore", "mixup_jax.sweep.run_all"),
            "mixup_jax.prediction.served.restore",
            *("mixup_jax.data.__main__.prepare", "mixup_jax.data.__main__.prepare_glove"),
            *("mixup_jax.report.build.plan_figures", "mixup_jax.devices.processes.jax.distributed.initialize"),
            *("mixup_jax.ahead.compile.compile_ahead", "mixup_jax.report.document_tables.make_groups"),
        ):
            stack.enter_context(mock.patch(name, side_effect=accept))
        stack.enter_context(mock.patch.dict(os.environ, HOME=str(home), TFDS_DATA_DIR=str(home / "data")))
        yield


class Folder:
    """A folder of files that every case finds as they were."""

    def __init__(self, folder: Path) -> None:
        """Writes the files."""
        self.folder = folder / "here"
        self.folder.mkdir()
        write_everything(self.folder)
        self.names = sorted(os.listdir(self.folder))
        self.before = state_of(self.folder)

    def mend(self) -> None:
        """Writes everything anew; a case that a command accepts may have changed anything."""
        for path in state_of(self.folder).keys() - self.before.keys():
            os.unlink(path)
        now = state_of(self.folder)
        if any(now.get(path) != facts for path, facts in self.before.items()):
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            write_everything(self.folder)
            self.before = state_of(self.folder)
        for entry in os.scandir(self.folder):
            if entry.name not in self.names:
                shutil.rmtree(entry.path)


def failure(door: str, arguments: Sequence[str], files: Folder) -> str | None:
    """Runs a command in the folder and says what is wrong with how it ended, if anything is."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.chdir(files.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run_command(MODULES[door].main, arguments)
        except AcceptedError:
            pass
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            return traceback.format_exc()
    return wrong_with(door, arguments, code, out.getvalue(), err.getvalue(), files)


def wrong_with(door: str, arguments: Sequence[str], code: object, out: str, err: str, files: Folder) -> str | None:
    """Says what is wrong with an exit code, an output, or the files after a refusal."""
    if code not in CODES.get(door, (0, 2, 3)):
        return f"exit code {code}: {err[:500]}"
    debug = "--debug" in arguments
    for text in (out, *([] if debug else [err])):
        if not text.replace("\n", "").isprintable():
            return f"an output with characters that are not printable: {text[:1000]!r}"
        if "\nerror: forged" in text:
            return f"an output with a forged line: {text[:1000]!r}"
    if code == 2:
        if not debug and (err.count("\n") != 1 or not err.startswith("error: ")):
            return f"no single line: {err[:1000]}"
        if changed := sorted(set(state_of(files.folder).items()) ^ set(files.before.items())):
            return f"files changed by a refusal ({err.strip()}): {changed[:4]}"
    return None


def too_slow(*_: object) -> None:
    """Ends a case that hangs."""
    raise TimeoutError(f"it took more than {SECONDS} seconds")


def fuzz(seed: int, numbers: Sequence[int], found: Callable[[str], None], until: float = float("inf")) -> Counter[str]:
    """Runs cases, reports what is wrong with each, and returns how many of each command were run."""
    done: Counter[str] = Counter()
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as made, without_the_long_work(Path(made) / "here" / "home"):
        files = Folder(Path(made).resolve())
        signal.signal(signal.SIGALRM, too_slow)
        for number in numbers:
            if time.monotonic() > until:
                break
            door, arguments = command_line(random.Random(f"{seed} {number}"), files.names)
            signal.alarm(SECONDS)
            wrong = failure(door, arguments, files)
            signal.alarm(0)
            if wrong:
                found(f"{seed} {number}: {door} {arguments}: {wrong}")
            files.mend()
            done[door] += 1
    return done


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop then, whatever is left")
    parser.add_argument("--write", type=Path, help="document whose report is replaced")
    arguments = parser.parse_args()
    wrong: list[str] = []

    def found(what: str) -> None:
        wrong.append(what)
        print(what[:300].encode("utf-8", "backslashreplace").decode(), "..", what[-700:], flush=True)

    numbers = range(arguments.first, arguments.first + arguments.cases)
    done = fuzz(arguments.seed, numbers, found, time.monotonic() + 60 * arguments.minutes)
    print(f"{sum(done.values()):,} cases, {len(wrong)} wrong: {dict(done)}")
    if arguments.write:
        lines = [f"{sum(done.values()):,} command lines on {datetime.date.today()}, seed {arguments.seed}:", ""]
        lines += ["| command | cases |", "| --- | ---: |", *(f"| {door} | {n:,} |" for door, n in sorted(done.items()))]
        write_between(arguments.write, "commands", "\n".join([*lines, "", f"Wrong: {len(wrong)}."]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
