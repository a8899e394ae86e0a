"""`python -m studies.closer [RUNS]`: writes docs/results/closer/README.md, the paper's methods on all of Fashion-MNIST.

Keeps the records of finished runs of configs/grids/fashion_mnist_closer.py first, if RUNS has them.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from mixup_jax.grid import load_grid
from mixup_jax.runs.files import write_atomically
from studies.league.page import Cell, escaped, table
from studies.settled import records
from studies.settled.answers import signed
from studies.settled.numbers import load_records, measured

FOLDER, GRID = Path("docs/results/closer"), Path("configs/grids/fashion_mnist_closer.py")
CALIBRATION = {
    "acc": "Accuracy",
    "nll": "NLL",
    "ece": "ECE",
    "gap": "Confidence minus accuracy",
    "nll_t": "NLL, after",
    "ece_t": "ECE, after",
}
FOREIGN = {
    "conf/mnist": "Confidence, digits",
    "auroc/mnist": "AUROC, digits",
    "conf/gaussian_noise": "Confidence, noise",
    "auroc/gaussian_noise": "AUROC, noise",
}
HEAD = """\
# The paper's methods on all of Fashion-MNIST

As near to the paper as two CPU cores allow: `configs/grids/fashion_mnist_closer.py` has all 55,000 training images
(5,000 are held out), augmentation, batches of 128, ResNet-18 at a quarter of the paper's width (16), and 15 epochs,
whose learning rate falls at the same shares of them as in the paper's 200. Nothing was tuned. Two seeds: mean ±
standard deviation of two networks, and no test of a difference. Numbers are of the first 2,500 test images, 250 digits
of MNIST and 100 images of noise, [kept in half precision](../settled/README.md#the-records). *After*: after the
temperature that is fitted on 800 held-out images. `dropout+mc10` is the mean of ten dropout passes of the networks of
`dropout`. Written by `python -m studies.closer`."""
DIFFERENCES = """\
The number of a method minus that of ERM, for seed 0 and for seed 1. Where both have one sign, a third seed may have the
other."""


def study() -> dict[str, Cell]:
    """Returns the numbers of every method that has records, in the order of the grid."""
    planned = dict.fromkeys(method_and_seed(run.name)[0] for run in load_grid(GRID))
    cells: dict[str, Cell] = {method: {} for name in planned for method in (name, f"{name}+mc10")}
    for path in sorted(FOLDER.glob("*/config.json")):
        method, seed = method_and_seed(path.parent.name)
        cells[method][seed] = measured(load_records(path.parent), "fashion_mnist")
    return {method: cell for method, cell in cells.items() if cell or method in planned}


def method_and_seed(run: str) -> tuple[str, int]:
    """Returns the method and the seed that the name of a run has."""
    method, seed, passes = re.fullmatch(r"fashion_mnist_(\w+)-(\d+)(\+mc10)?", run).groups(default="")  # type: ignore[union-attr]
    return method + passes, int(seed)


def against_erm(cells: dict[str, Cell]) -> str:
    """Returns a line of differences to ERM for each other method, one number a seed."""
    columns = {key: label for key, label in (CALIBRATION | FOREIGN).items() if key not in ("nll", "gap")}
    lines = [f"| minus erm | {' | '.join(columns.values())} |", f"| --- |{' ---: |' * len(columns)}"]
    for method, cell in cells.items():
        seeds = sorted(cell.keys() & cells["erm"].keys())
        if method != "erm" and seeds:
            values = [", ".join(signed(cell[seed][key] - cells["erm"][seed][key]) for seed in seeds) for key in columns]
            lines.append(f"| {escaped(method)} | {' | '.join(values)} |")
    return "\n".join(lines)


def written() -> str:
    """Returns the page."""
    cells = study()
    planned = Counter(method_and_seed(run.name)[0] for run in load_grid(GRID))
    missing = [
        f"{escaped(method)} ({count - len(cells[method])} of {count})"
        for method, count in planned.items()
        if len(cells[method]) < count
    ]
    state = f"**Not yet run: {', '.join(missing)}.**" if missing else "All runs are here."
    parts = [HEAD, state, "## Calibration", table(cells, CALIBRATION), "## Foreign inputs", table(cells, FOREIGN)]
    return "\n\n".join([*parts, "## Against ERM, seed by seed", DIFFERENCES, against_erm(cells)]) + "\n"


def main(arguments: list[str]) -> int:
    """Keeps records and writes the page."""
    for runs in arguments:
        records.main([runs, str(FOLDER)])
    write_atomically(FOLDER / "README.md", written().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
