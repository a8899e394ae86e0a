"""Checks on a machine with an accelerator: whether the training step is correct and fast there, and the paper's run.

    python benchmarks/accelerator.py --data_dir=DIR --output=DIR [--minutes=14] [--only=correct,fast,mixing,paper]
    python benchmarks/accelerator.py --dry_run --output=DIR

It needs the checkout, its requirements except TensorFlow, a jax for the device, and in DIR Fashion-MNIST and MNIST,
prepared by `python -m mixup_jax.data fashion_mnist mnist`, but no network. It compares with PyTorch, and torchvision
for ResNet-50; without them these columns are empty. It writes accelerator.json after every part, so that it may be
ended at any moment; parts for which there was no time are named in `left_out`. `--dry_run` runs everything in tiny
sizes on a CPU, with made-up images.
"""

import argparse
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import accelerator_parts as parts
import numpy as np
from document import installed
from networks import Case
from side_by_side import ROOT, Side, medians
from small import make_data

from mixup_jax.config import ModelConfig
from mixup_jax.methods.method import VARIANTS

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
BOUNDS = {"step": 1e-3, "pmap": 1e-5, "logits": 1e-3, "odin": 1e-2, "metric": 1e-3}
"""Largest differences from the CPU that pass, in float32 at the highest precision, as `distance` measures them: a
step's parameters, pmap's from the same device's jit, logits, ODIN's (which follow signs of gradients), metrics."""
AIMS = {"compiled": 1.1, "share of the peak": 0.25, "mixing": 1.01}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of everything: full, or tiny for a dry run."""

    width: int = 16
    methods: tuple[str, ...] = tuple(VARIANTS)
    product: int = 8192
    megabytes: int = 1024
    cases: tuple[Case, ...] = ()
    flag: int = 0
    rounds: int = 5
    seconds: float = 1.0
    each: int = 20
    paper: tuple[str, ...] = ()


def _case(label: str, name: str, width: int, data: str, batch: int, dtype: str = "bfloat16", **model: Any) -> Case:
    return Case(f"{label}, batch {batch}", ModelConfig(name=name, width=width, dtype=dtype, **model), data, batch)


FULL = Sizes(
    # In order of importance: the last ones are left out first.
    cases=(
        _case("ResNet-18 w64, 28x28x1", "resnet18", 64, "fashion_mnist", 1024),
        _case("ResNet-50, 224x224x3", "resnet50", 64, "imagenet2012", 256, stem="imagenet"),
        _case("ResNet-18 w64, 28x28x1", "resnet18", 64, "fashion_mnist", 128),
        _case("WRN-28-10, 32x32x3", "wrn28", 160, "cifar10", 128),
        _case("VGG-16, 32x32x3", "vgg16", 64, "cifar10", 128),
        _case("sentence CNN, 64 tokens", "text_cnn", 100, "mr", 128),
        _case("ResNet-18 w64, 32x32x3", "resnet18", 64, "cifar10", 1024),
        _case("ResNet-18 w64, 28x28x1", "resnet18", 64, "fashion_mnist", 512),
        _case("ResNet-18 w64, 32x32x3", "resnet18", 64, "cifar10", 512),
        _case("ResNet-18 w64, 32x32x3", "resnet18", 64, "cifar10", 128),
    ),
    flag=2,
    paper=("--config.model.dtype=bfloat16",),
)
TINY = Sizes(
    width=2,
    methods=("erm", "mixup"),
    product=128,
    megabytes=1,
    cases=(
        _case("ResNet-8 w2, 28x28x1", "resnet8", 2, "fashion_mnist", 16, dtype="float32"),
        _case("sentence CNN, 64 tokens", "text_cnn", 2, "mr", 16, dtype="float32"),
    ),
    rounds=2,
    seconds=0.01,
    each=1,
    paper=(
        *("--config.model.name=resnet8", "--config.model.width=2", "--config.epochs=1"),
        *("--config.data.train_examples=256", "--config.data.validation_examples=64"),
        "--config.evaluation.ood_examples=64",
    ),
)


class Session:
    """The results so far, which accelerator.json holds, the time that is left, and the folders of results and data."""

    def __init__(self, sizes: Sizes, folder: Path, data_dir: Path, minutes: float) -> None:
        """Starts the clock."""
        self.sizes, self.folder, self.data_dir = sizes, folder, data_dir
        self._end = self._until = time.monotonic() + 60 * minutes
        self.found: dict[str, Any] = {"date": datetime.date.today().isoformat(), "minutes": minutes, "left_out": []}

    @property
    def left(self) -> float:
        """Seconds that are left for the current section."""
        return self._until - time.monotonic()

    def give(self, share: float) -> None:
        """Gives the next section a share of the whole time that is left."""
        self._until = time.monotonic() + share * (self._end - time.monotonic())

    def part(self, section: str, name: str, needed: float, do: Callable[[], Any]) -> Any:
        """Does a part if there is time for it; keeps, writes and returns its result, None if it failed.

        It takes at least `needed` seconds, and `do` returns what JSON can hold.
        """
        if self.left < needed:
            self.found["left_out"].append(f"{section}: {name}")
            result = None
        else:
            start = time.monotonic()
            try:
                result = do()
            except TimeoutError:
                result = None
                self.found["left_out"].append(f"{section}: {name}")
            except Exception as error:  # the failure is this part's result, and the other parts go on
                result = None
                self.found.setdefault("failed", {})[f"{section}: {name}"] = f"{type(error).__name__}: {error}"
                print(f"{section}: {name}: failed: {error}", flush=True)
            else:
                self.found.setdefault(section, {})[name] = result
                print(f"{section}: {name} ({time.monotonic() - start:.0f} s): {json.dumps(result)}", flush=True)
        partial = self.folder / "accelerator.json.part"
        partial.write_text(json.dumps(self.found, indent=1) + "\n")
        partial.replace(self.folder / "accelerator.json")
        return result


def correct(session: Session) -> None:
    """Compares the device with the CPU, and a resumed run with an uninterrupted one, with and without XLA's flag."""
    sizes, kept = session.sizes, session.folder / "numbers"
    methods = list(sizes.methods)

    def numbers(name: str, **environment: str) -> dict[str, Any]:
        (kept / name).mkdir(parents=True, exist_ok=True)
        repeats = parts.apart(
            *(parts.numbers, sizes.width, methods, str(kept / name)), seconds=session.left, **environment
        )
        return {"methods": repeats, "all repeat to the bit": all(repeats.values())}

    cpu = session.part("correct", "steps on the CPU", 10, lambda: numbers("cpu", JAX_PLATFORMS="cpu"))
    device = session.part("correct", "steps on the device", 10, lambda: numbers("device"))
    if cpu and device:
        session.part("correct", "against the CPU", 0, lambda: against(kept / "cpu", kept / "device", methods))
    flags = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}"
    for name, environment in (("deterministic", {"XLA_FLAGS": flags}), ("default", {})):
        session.part(
            *("correct", f"continued run, {name}", 10),
            lambda environment=environment: parts.apart(
                parts.resumed, sizes.width, seconds=session.left, **environment
            ),
        )
    session.part("correct", "repeated steps, deterministic", 30, lambda: numbers("deterministic", XLA_FLAGS=flags))
    case = sizes.cases[sizes.flag]
    session.part(
        *("correct", "cost of the flag", 30),
        lambda: {
            name: parts.apart(
                *(parts.step_seconds, case, sizes.rounds, sizes.each), seconds=session.left, XLA_FLAGS=value
            )
            for name, value in (("default", os.environ.get("XLA_FLAGS", "")), ("deterministic", flags))
        },
    )


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the largest difference, divided by the largest absolute value of the second array."""
    return float(np.max(np.abs(one.astype(np.float64) - other))) / max(float(np.max(np.abs(other))), 1e-6)


def against(cpu: Path, device: Path, methods: Sequence[str]) -> dict[str, Any]:
    """Returns the largest distances of each method's numbers from the CPU's, and whether they are within BOUNDS."""
    found: dict[str, Any] = {}
    for name in methods:
        with np.load(cpu / f"{name}.npz") as expected, np.load(device / f"{name}.npz") as given:
            largest: dict[str, float] = {}
            for key in expected.files:
                kind = key.partition("[")[0].partition("/")[0]
                if kind in ("lambda", "partner"):
                    found[f"{key} equal to the bit"] = bool(np.array_equal(expected[key], given[key]))
                    continue
                other = given[key.replace("pmap", "step")] if kind == "pmap" else expected[key]
                largest[kind] = max(largest.get(kind, 0.0), distance(given[key], other))
        found[name] = {**largest, "within bounds": all(value <= BOUNDS[kind] for kind, value in largest.items())}
    return found


def fast(session: Session) -> None:
    """Times the training step against PyTorch's, and against the roofline of the card."""
    sizes = session.sizes
    card = session.part(
        *("fast", "roofline", 10),
        lambda: parts.apart(parts.roofline, sizes.product, sizes.megabytes, seconds=session.left),
    )
    for case in sizes.cases:
        session.part(
            "fast", case.label, 60 if sizes is FULL else 1, lambda case=case: beside_torch(session, case, card)
        )


def beside_torch(session: Session, case: Case, card: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the images/s of all sides, which take turns, and our share of the card's bfloat16 FLOPs."""
    flops, sides = parts.apart(parts.flops_of, case, seconds=session.left, JAX_PLATFORMS="cpu"), {}
    peers = {"eager": False, "compiled": True} if installed("torch") and case.model.name != "resnet8" else {}
    try:
        sides["ours"] = Side(parts.ours, case)
        for name, compiled in peers.items():
            sides[name] = Side(parts.theirs, case, compiled)
        times = medians(list(sides.values()), rounds=session.sizes.rounds, seconds_a_turn=session.sizes.seconds)
    finally:
        for side in sides.values():
            side.__exit__()
    seconds = dict(zip(sides, times, strict=True))
    found: dict[str, Any] = {f"{name} images/s": round(case.batch / each, 1) for name, each in seconds.items()}
    found |= {f"{name} / ours": round(seconds[name] / seconds["ours"], 3) for name in peers}
    if card is not None:
        found["share of the peak"] = round(flops / seconds["ours"] / card["bf16_flops"], 4)
    return found


def mixing(session: Session) -> None:
    """Times the step of every method against the step without mixing, and the drawing of lambda."""
    sizes = session.sizes

    def costs() -> dict[str, Any]:
        arguments = (sizes.cases[0], list(sizes.methods), sizes.rounds, sizes.each)
        found = parts.apart(parts.mixing, *arguments, seconds=session.left)
        plain = found["step_seconds"]["erm"]
        ratios = {name: round(seconds / plain, 4) for name, seconds in found["step_seconds"].items()}
        return {"by erm": ratios, "drawing by a step": round(found["draw_seconds"] / plain, 4), **found}

    session.part("mixing", sizes.cases[0].label, 20 if sizes is FULL else 1, costs)


def paper(session: Session) -> None:
    """Trains and evaluates the paper's experiment, for as many methods and seeds as time allows; runs are kept."""
    longest = 0.0
    for seed in range(5):
        for method in ("erm", "mixup"):
            start = time.monotonic()
            session.part("paper", f"{method}-{seed}", longest, lambda m=method, s=seed: paper_run(session, m, s))
            longest = max(longest, time.monotonic() - start)
            if session.sizes is TINY:
                return


def paper_run(session: Session, method: str, seed: int) -> dict[str, Any]:
    """Returns results of `mixup_jax.evaluate` for one run; the same command resumes a run that was ended."""
    workdir = session.folder / "runs" / f"{method}-{seed}"
    shared = [f"--workdir={workdir}", f"--data_dir={session.data_dir}"]
    config = f"--config={ROOT / 'configs' / 'fashion_mnist.py'}:{method}"
    start = time.monotonic()
    command(session, "main", config, *shared, f"--config.seed={seed}", *session.sizes.paper)
    trained = time.monotonic() - start
    command(session, "evaluate", *shared)
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    test = {key: evaluation["results"]["fashion_mnist/test"][key] for key in ("accuracy", "ece_15", "oe_15", "nll")}
    ood = {name: entry["auroc"] for name, entry in evaluation["ood"].items()}
    return {"seconds of training": round(trained, 1), **test, "auroc": ood}


def command(session: Session, module: str, *arguments: str) -> None:
    """Runs a command of the package; when the time is over, SIGTERM makes a training run save and end."""
    line = [sys.executable, "-m", f"mixup_jax.{module}", *arguments]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate(timeout=max(1.0, session.left))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}: {' '.join(errors.split())[-500:]}")


SECTIONS: dict[str, tuple[Callable[[Session], None], float]] = {
    "correct": (correct, 0.25),
    "fast": (fast, 0.5),
    "mixing": (mixing, 0.3),
    "paper": (paper, 1.0),
}
"""The sections in order, each with its share of the time that is left."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1 if a part failed, or in a dry run was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="where data is prepared")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for accelerator.json and the runs")
    parser.add_argument("--minutes", type=float, default=14.0, help="for everything (default: %(default)s)")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="NAMES", help="sections (default: %(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="tiny sizes, made-up images, on the CPU")
    arguments = parser.parse_args(argv)
    chosen = arguments.only.split(",")
    if not set(chosen) <= set(SECTIONS) or not (arguments.data_dir or arguments.dry_run):
        parser.error(f"--only takes some of {', '.join(SECTIONS)}; --data_dir is needed but with --dry_run")
    # Two sides share the card's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    data_dir = (arguments.data_dir or output / "data").resolve()
    if arguments.dry_run:
        os.environ["JAX_PLATFORMS"] = "cpu"
        # Compile fast, because the programs run only a few times.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
        make_data(data_dir, train=400, test=400)
    session = Session(TINY if arguments.dry_run else FULL, output, data_dir, arguments.minutes)
    for name in chosen:
        section, share = SECTIONS[name]
        session.give(share)
        section(session)
    return int("failed" in session.found or (arguments.dry_run and bool(session.found["left_out"])))


if __name__ == "__main__":
    sys.exit(main())
