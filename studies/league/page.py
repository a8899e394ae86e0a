"""`python -m studies.league.page`: writes the league table, docs/results/league/README.md, from the kept records.

Protocol: docs/results/league/protocol.md.
"""

import sys
from pathlib import Path

import numpy as np

from mixup_jax.metrics.table import SCORES
from mixup_jax.report.formatting import MINUS, NONE
from mixup_jax.runs.files import read_object, write_atomically
from studies.league.choose import FOLDER, SEEDS, SETTLED, SIZES, candidates, compared, held_out_nll, name
from studies.league.scores import FILE, OF_FEATURES, SETS, TUNING, Aurocs
from studies.settled.answers import shown
from studies.settled.figures import by_method
from studies.settled.intervals import Comparison, compare, corrected
from studies.settled.numbers import Numbers, load_records, measured

COLUMNS = {
    "acc": "Accuracy",
    "nll": "NLL",
    "ece": "ECE",
    "nll_t": "NLL, after",
    "ece_t": "ECE, after",
    "auroc/mnist": "AUROC, near",
    "auroc/gaussian_noise": "AUROC, far",
}
DIFFERENCES = ("nll_t", "ece_t", "acc")
HEAD = """\
# A league of methods, against ERM and mixup

Settings, choice of numbers, pairs and corrections are those of the [protocol](protocol.md), which was written before
the first run. This page is written from the records beside it and from [those of ERM and mixup](../settled/README.md)
by `python -m studies.league.page`. *After*: after the temperature that is fitted on validation examples. AUROC is of
the maximum softmax probability, *near* against MNIST and *far* against Gaussian noise. Mean ± standard deviation over
seeds; differences are paired by seed, with 95 % t intervals, and verdicts at 5 % after Holm's correction over the
methods."""

CONTINUE = "The command at the head of `configs/grids/league.py` continues where it was stopped."
FEATURES = """\
By scores of penultimate features (32 numbers; [feature_scores.json](feature_scores.json) has all of them): of each
method the score with the highest mean AUROC against uniform noise, which is in no table. All 10,000 test images
against 900 of each foreign set. What is best on one foreign set may fail on another; beside it stands one score for
all methods, Mahalanobis."""
COMMON = "mahalanobis"
"""The score of features that stands for all methods."""
FIGURE = """\
![NLL after temperature scaling of every method, the lowest on top](figures/nll.svg)

A point is a network, a bar the mean of a method."""
CANDIDATES = """\
2,500 images, seed 1, one network each, beside ERM: what is chosen is the lowest *held-out NLL*, of the kept validation
examples at the temperature that is best for them."""

Cell = dict[int, Numbers]
"""The numbers of one method at one size, by seed."""


def league(size: int, chosen: dict[str, str]) -> dict[str, Cell]:
    """Returns the numbers of every method at a size, ERM and mixup first, of the seeds that have records."""
    return {
        method: {seed: numbers(path) for seed, path in seeds.items() if (path / "config.json").is_file()}
        for method, seeds in compared(size, chosen).items()
    }


def numbers(folder: Path) -> Numbers:
    """Returns what is measured of one network, from its kept records."""
    return measured(load_records(folder), "fashion_mnist")


def table(cells: dict[str, Cell], columns: dict[str, str]) -> str:
    """Returns a line for each method, in their order, with the mean of each number over the seeds and its spread."""
    lines = [f"| method | seeds | {' | '.join(columns.values())} |", f"| --- | ---: |{' ---: |' * len(columns)}"]
    for method, cell in cells.items():
        values = [[one[key] for one in cell.values()] for key in columns]
        lines.append(f"| {escaped(method)} | {len(cell)} | {' | '.join(map(spread, values))} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Returns mean ± standard deviation, or what there is of it."""
    if not values:
        return NONE
    mean = f"{np.mean(values):.3f}".replace("-", MINUS)
    return mean + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def against(cells: dict[str, Cell], base: str) -> str:
    """Returns a table of the differences of every method to one, by pairs of one seed."""
    columns = [map(shown, column) for column in differences(cells, base).values()]
    lines = [f"| minus {base} | {' | '.join(COLUMNS[key] for key in DIFFERENCES)} |", "| --- | --- | --- | --- |"]
    rows = zip(compared_methods(cells), *columns, strict=True)
    return "\n".join([*lines, *(f"| {' | '.join([escaped(method), *row])} |" for method, *row in rows)])


def compared_methods(cells: dict[str, Cell]) -> list[str]:
    """Returns the methods that have a run, without ERM and mixup."""
    return [method for method in cells if method not in ("erm", "mixup") and cells[method]]


def differences(cells: dict[str, Cell], base: str) -> dict[str, list[Comparison]]:
    """Returns for each number the comparison of every method with one, corrected over the methods."""
    found = {}
    for key in DIFFERENCES:
        pairs = [
            [cells[method][seed][key] - cells[base][seed][key] for seed in cells[method] if seed in cells[base]]
            for method in compared_methods(cells)
        ]
        found[key] = corrected([compare(values) for values in pairs])
    return found


def by_features(size: int, chosen: dict[str, str], scored: dict[str, Aurocs]) -> str:
    """Returns the table of the best score of features of every method at a size, the best first by AUROC near."""
    rows = []
    for method, paths in compared(size, chosen).items():
        seeds = [scored[path.name] for path in paths.values() if path.name in scored]
        if seeds:
            values = {score: {each: [one[each][score] for one in seeds] for each in SETS} for score in OF_FEATURES}
            best = max(values, key=lambda score: np.mean(values[score][TUNING]))
            shown = [spread(values[score][each]) for score in (best, COMMON) for each in ("mnist", "gaussian_noise")]
            line = f"| {escaped(method)} | {len(seeds)} | {label_of(best)} | {' | '.join(shown)} |"
            rows.append((-np.mean(values[best]["mnist"]), line))
    columns = [f"{words}, {where}" for words in ("AUROC", label_of(COMMON)) for where in ("near", "far")]
    lines = [f"| method | seeds | score | {' | '.join(columns)} |", "| --- | ---: | --- |" + " ---: |" * len(columns)]
    return "\n".join([*lines, *(line for _, line in sorted(rows))])


def label_of(score: str) -> str:
    """Returns the name of a score as tables show it."""
    return next(row.label for row in SCORES if row.key == score)


def escaped(name: str) -> str:
    """Returns a name as Markdown shows it unchanged."""
    return name.replace("_", "\\_")


def state(cells: dict[int, dict[str, Cell]]) -> str:
    """Returns a sentence on which runs are there."""
    missing = [
        f"{method} at {size:,} images ({len(SEEDS) - len(cell)} of {len(SEEDS)} seeds)"
        for size, methods in cells.items()
        for method, cell in methods.items()
        if len(cell) < len(SEEDS)
    ]
    if missing:
        return f"**Not yet run: {'; '.join(missing)}.** What is said is preliminary. {CONTINUE}"
    return f"All runs are here. {' '.join(in_short(size, methods) for size, methods in cells.items())}"


def in_short(size: int, cells: dict[str, Cell]) -> str:
    """Returns a sentence on the order by NLL after temperature, and on how many differences are decided."""
    order = list(by_nll(cells))
    erm, mixup = (order.index(method) + 1 for method in ("erm", "mixup"))
    columns = [column for base in ("erm", "mixup") for column in differences(cells, base).values()]
    decided = [one.verdict in ("lower", "higher") for column in columns for one in column]
    return (
        f"At {size:,} images NLL after temperature is lowest with {escaped(', '.join(order[:3]))}; ERM has place {erm} "
        f"and mixup place {mixup} of {len(order)}. "
        f"Of {len(decided)} differences to these two {sum(decided)} are decided."
    )


def by_nll(cells: dict[str, Cell]) -> dict[str, Cell]:
    """Returns the methods by their mean NLL after temperature, the best first; those without a run last."""

    def place(method: str) -> float:
        return float(np.mean([one["nll_t"] for one in cells[method].values()])) if cells[method] else np.inf

    return {method: cells[method] for method in sorted(cells, key=place)}


def tried(chosen: dict[str, str]) -> str:
    """Returns the table of ERM and of the candidates that have records, with what these are chosen by."""
    lines = ["| method | candidate | held-out NLL |", "| --- | --- | ---: |"]
    for method, labels in ({"erm": {"alpha_0": SETTLED / name("alpha_0")}} | candidates()).items():
        for label, path in labels.items():
            if (path / "config.json").is_file():
                mark = ", **chosen**" if chosen.get(method) == label else ""
                lines.append(f"| {escaped(method)} | {escaped(label)}{mark} | {held_out_nll(path):.4f} |")
    return "\n".join(lines)


def picture(cells: dict[int, dict[str, Cell]]) -> bytes:
    """Returns the NLL after temperature of all networks as SVG, a panel for each size."""
    return by_method(
        {
            f"{size:,} images": {
                method: [one["nll_t"] for one in cell.values()] for method, cell in methods.items() if cell
            }
            for size, methods in cells.items()
        },
        "NLL after temperature scaling, nats",
    )


def written() -> tuple[str, bytes | None]:
    """Returns the page, and its figure if there is a choice."""
    chosen = read_object(FOLDER / "chosen.json")["chosen"] if (FOLDER / "chosen.json").is_file() else {}
    scored = read_object(FOLDER / FILE) if (FOLDER / FILE).is_file() else {}
    cells = {size: league(size, chosen) for size in SIZES} if chosen else {}
    trained = [(path / "config.json").is_file() for labels in candidates().values() for path in labels.values()]
    waiting = f"**No choice yet**: {sum(trained)} of {len(trained)} candidates are trained. {CONTINUE}"
    here = state(cells) if chosen else waiting
    parts = [HEAD, f"## What is here\n{here}"] + ([FIGURE] if cells else [])
    for size, methods in cells.items():
        tables = [table(by_nll(methods), COLUMNS), against(methods, "erm"), against(methods, "mixup")]
        if scored:
            tables += [FEATURES, by_features(size, chosen, scored)]
        parts.append(f"## {size:,} images\n" + "\n\n".join(tables))
    parts.append(f"## The candidates\n{CANDIDATES}\n\n{tried(chosen)}")
    return "\n\n".join(parts) + "\n", picture(cells) if cells else None


def main() -> int:
    """Writes the page and its figure."""
    text, drawn = written()
    if drawn:
        write_atomically(FOLDER / "figures" / "nll.svg", drawn)
    write_atomically(FOLDER / "README.md", text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
