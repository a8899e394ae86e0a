"""`python -m studies.independent_page [RUNS TORCH INIT LAST]`: writes docs/results/independent/README.md from records.

With the folders that configs/grids/independent.py has written, studies/independent.py, and the latter with
`--init=ours` and with `--last=ours`, it first keeps a record of each network: confidence and correctness of the 10,000
test images, as `python -m mixup_jax.evaluate --scores` reads it.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import stats

from mixup_jax import metrics
from mixup_jax.report import formatting
from mixup_jax.runs.files import write_atomically
from mixup_jax.runs.records import load_record

FOLDER = Path("docs/results/independent")
OURS = "package"
OTHERS = {
    "torch": "PyTorch",
    "init": "PyTorch with our initial weights",
    "last": "PyTorch without the incomplete last batch of an epoch",
}
"""The PyTorch program as it is, and with one of its switches turned."""
METHODS = {"erm": "alpha_0", "mixup": "alpha_0.2"}
"""Methods, and what the PyTorch program's folders call them."""
NUMBERS = {"accuracy": "accuracy", "ece": "ECE, 15 bins", "gap": "confidence minus accuracy"}
HEAD = """\
# The same experiment in PyTorch

`studies/independent.py` is a program of its own, with the numbers of `configs/quickstart.py` at 5,000 images, 30 epochs
and batch 128; `configs/grids/independent.py` has the package's side. Both train on the same images and are judged by
the same 10,000 test images; nothing else is shared, not even the initial weights. The question, the design and what
would be done next were written into the program before the runs. This page is written by
`python -m studies.independent_page` from the records beside it. Mean ± standard deviation over the seeds; differences
with Welch's 95 % t intervals.
"""

WIDEST = 0.005
"""Half the width of the interval of mixup's accuracy beyond which the design adds seeds, up to `ALL_SEEDS`."""
ALL_SEEDS = 10

WORDS = {
    "explains": "this explains the difference (the interval contains 0 and not the whole of it)",
    "remains": "this does not explain it, or not alone (the interval excludes 0)",
    "open": "the seeds are too few to say",
}

UNITS = 65535  # of a confidence that is kept: 1 is kept exactly
Sides = dict[tuple[str, str], dict[int, dict[str, float]]]
"""The numbers of each network, by side and method, and by seed."""


def keep(runs: Path, *others: Path) -> None:
    """Writes a record of every finished network of this package and of the other sides, in the order of `OTHERS`."""
    for method, name in METHODS.items():
        for side, folder in zip(OTHERS, others, strict=False):
            for path in folder.glob(f"{name}-[0-9]*/test.npz"):
                save(side, method, path.parent.name.rpartition("-")[2], path)
        for run in runs.glob(f"quickstart_{method}-[0-9]*"):
            if (run / "evaluation.json").is_file():
                (path,) = (run / "predictions").glob("fashion_mnist-test-*.npz")
                save(OURS, method, run.name.rpartition("-")[2], path)


def save(side: str, method: str, seed: str, path: Path) -> None:
    """Writes confidence, in units of 1/65535, and correctness of a file of logits.

    Rounded so, no number of a network moves by the last digit that is printed, 0.0001.
    """
    record = load_record(path)
    confidence, correct = metrics.confidence_and_correct(record.logits, record.labels)
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        FOLDER / f"{side}-{method}-{seed}.npz",
        confidence=np.round(confidence * UNITS).astype(np.uint16),
        correct=correct,
    )


def load() -> Sides:
    """Returns the numbers of the kept records."""
    found: Sides = {}
    for path in sorted(FOLDER.glob("*.npz")):
        side, method, seed = path.stem.split("-")
        with np.load(path) as record:
            confidence, correct = record["confidence"] / UNITS, record["correct"]
        bins = metrics.bin_confidences(confidence, correct, 15)
        accuracy = float(correct.mean())
        found.setdefault((side, method), {})[int(seed)] = {
            "accuracy": accuracy,
            "ece": metrics.ece(bins),
            "gap": float(confidence.mean()) - accuracy,
        }
    return found


def values(sides: Sides, side: str, method: str, key: str) -> list[float]:
    """Returns one number of one side by seed; of the method "gain", mixup's less ERM's of the same seed."""
    if method == "gain":
        mixup, erm = sides[side, "mixup"], sides[side, "erm"]
        return [mixup[seed][key] - erm[seed][key] for seed in sorted(mixup.keys() & erm.keys())]
    return [sides[side, method][seed][key] for seed in sorted(sides[side, method])]


def welch(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Returns the difference of the means and its 95 % interval (Welch 1947)."""
    found = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = found.confidence_interval(0.95)
    return float(np.mean(ours) - np.mean(theirs)), float(interval.low), float(interval.high)


def shown(mean: float, low: float, high: float) -> str:
    """Returns a difference and its interval, with four digits."""
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]".replace("-", formatting.MINUS)


def compared(sides: Sides, other: str, method: str, key: str) -> tuple[list[float], list[float]]:
    """Returns one number of this package and of another side, by seed; empty where a side was not run."""
    of_method = METHODS if method == "gain" else (method,)
    if any((side, each) not in sides for side in (OURS, other) for each in of_method):
        return [], []
    return values(sides, OURS, method, key), values(sides, other, method, key)


def table(sides: Sides, other: str) -> str:
    """Returns the table of this package, another side and their difference, a row for each method and number."""
    lines = [
        f"| method | number | seeds | this package | {OTHERS[other]} | difference |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for method in (*METHODS, "gain"):
        for key, label in NUMBERS.items():
            both = compared(sides, other, method, key)
            if min(map(len, both)) > 1:
                cells = [f"{np.mean(one):.4f} ± {np.std(one, ddof=1):.4f}" for one in both]
                cells = [cell.replace("-", formatting.MINUS) for cell in cells] + [shown(*welch(*both))]
                lines.append(f"| {method} | {label} | {len(both[0])}, {len(both[1])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def answer(sides: Sides) -> str:
    """Returns what the design concludes from mixup's accuracy, and by how much its gain differs."""
    both = compared(sides, "torch", "mixup", "accuracy")
    mean, low, high = welch(*both)
    gain = welch(*compared(sides, "torch", "gain", "accuracy"))
    differs, wide = low > 0 or high < 0, (high - low) / 2 > WIDEST
    if (differs or wide) and min(map(len, both)) < ALL_SEEDS:
        verdict = f"The interval {'excludes 0' if differs else f'is wider than ±{WIDEST}'}: the design adds seeds next."
    elif differs:
        verdict = "The interval excludes 0: it is not chance, and the design turns its switches next."
    else:
        verdict = "The interval contains 0: by the design it was chance."
    return (
        f"**Accuracy** of mixup, this package less PyTorch: {shown(mean, low, high)}; of the gain by mixup: "
        f"{shown(*gain)}. {verdict}"
    )


def calibration(sides: Sides) -> str:
    """Returns what is found of the ECE of ERM, which the design left out, and of each switch whether it explains it."""
    whole = welch(*compared(sides, "torch", "erm", "ece"))
    text = f"**Calibration**, which the design left out: ECE of ERM, this package less PyTorch, is {shown(*whole)}."
    for other, name in OTHERS.items():
        both = compared(sides, other, "erm", "ece")
        if other != "torch" and min(map(len, both)) > 1:
            left, low, high = welch(*both)
            word = "remains" if low > 0 or high < 0 else "explains" if max(-low, high) < abs(whole[0]) else "open"
            text += f" Less {name} it is {shown(left, low, high)}: {WORDS[word]}."
    return text


def main(arguments: list[str]) -> int:
    """Keeps what is given and writes the page; returns 1 if a side has fewer than two networks of a method."""
    if arguments:
        keep(*map(Path, arguments))
    sides = load()
    if min(map(len, compared(sides, "torch", "gain", "accuracy"))) < 2:
        print(f"{FOLDER} has fewer than two networks of a side and method; expected at least two", file=sys.stderr)
        return 1
    tables = [table(sides, other) for other in OTHERS if (other, "erm") in sides]
    parts = [HEAD, answer(sides) + "\n", calibration(sides) + "\n", *(one + "\n" for one in tables)]
    write_atomically(FOLDER / "README.md", "\n".join(parts).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
