"""`python -m studies.league.choose`: writes chosen.json, the number of each method that the validation records favour.

Protocol: docs/results/league/protocol.md.  Nothing is written before all candidates have records.
"""

import sys
from pathlib import Path

from mixup_jax import metrics
from mixup_jax.grid import load_grid
from mixup_jax.runs.files import write_json
from studies.settled.numbers import load_records

FOLDER, SETTLED = Path("docs/results/league"), Path("docs/results/settled")
GRID = Path("configs/grids/league.py")
ALPHAS = ("0.1", "0.2", "0.4", "1")
SIZE, SEED = 2_500, 1
"""Of the candidates."""
SIZES, SEEDS = (2_500, 10_000), (0, 1, 2)
"""Of what is compared."""


def candidates() -> dict[str, dict[str, Path]]:
    """Returns the folders of all candidates' records, by method and label."""
    found = {"mixup": {f"alpha_{alpha}": SETTLED / name("alpha_" + alpha) for alpha in ALPHAS}}
    for run in load_grid(GRID):
        method = run.config.rpartition(":")[2]
        label = run.name.removeprefix(name(f"{method}_", seed=False)).rpartition("-")[0]
        if run.name == name(f"{method}_{label}"):
            found.setdefault(method, {})[label] = FOLDER / run.name
    return found


def compared(size: int, chosen: dict[str, str]) -> dict[str, dict[int, Path]]:
    """Returns the folders of the records that are compared, by method, ERM and mixup first, and by seed."""
    cells = {"erm": (SETTLED, "alpha_0"), "mixup": (SETTLED, chosen["mixup"])}
    cells |= {method: (FOLDER, f"{method}_{label}") for method, label in chosen.items() if method != "mixup"}
    return {
        method: {seed: folder / f"images_{size}_plain_{cell}-{seed}" for seed in SEEDS}
        for method, (folder, cell) in cells.items()
    }


def name(what: str, *, seed: bool = True) -> str:
    """Returns the name of a run in the regime of the candidates."""
    return f"images_{SIZE}_plain_{what}" + (f"-{SEED}" if seed else "")


def held_out_nll(folder: Path) -> float:
    """Returns the NLL of the held-out examples at the temperature that is best for them, in nats."""
    record = load_records(folder)["fashion_mnist/validation"]
    temperature = metrics.fit_temperature(record.logits, record.labels)
    return metrics.nll(metrics.scale(record.logits, temperature), record.labels)


def leave_held_out(folder: Path) -> None:
    """Deletes the records of a candidate that is not compared, but for what it was judged by."""
    for path in (folder / "predictions").glob("*.npz"):
        if "-validation-" not in path.name:
            path.unlink()


def main() -> int:
    """Writes the choice and leaves the others their held-out records; returns 1 if a candidate has no record yet."""
    found = candidates()
    missing = [str(path) for labels in found.values() for path in labels.values() if not path.is_dir()]
    if missing:
        print(f"no record yet: {', '.join(missing)}", file=sys.stderr)
        return 1
    scores = {method: {label: held_out_nll(path) for label, path in labels.items()} for method, labels in found.items()}
    chosen = {method: min(labels, key=lambda label: labels[label]) for method, labels in scores.items()}
    write_json(FOLDER / "chosen.json", {"chosen": chosen, "held_out_nll": scores})
    for method, labels in found.items():
        for label, path in labels.items():
            if label != chosen[method] and path.parent == FOLDER:
                leave_held_out(path)
    print(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
