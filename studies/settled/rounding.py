"""`python -m studies.settled.rounding RUNS [FOLDER]`: how far half precision moves the numbers of the kept records.

RUNS has the runs' own folders, whose records are float32; the same rows are measured from both.
"""

import sys
from pathlib import Path

from mixup_jax.runs.records import Predictions
from studies.settled.numbers import Numbers, load_network, load_records, measured
from studies.settled.records import FOLDER, ROWS, finished


def moved(run: Path, kept: Path) -> Numbers:
    """Returns by how much each number of a run differs from that of its kept records."""
    exact = {
        name: Predictions(record.logits[: ROWS[name]], record.labels[: ROWS[name]], record.meta)
        for name, record in load_records(run).items()
    }
    rounded = load_network(kept).numbers
    dataset = next(name for name in exact if name.endswith("/validation")).partition("/")[0]
    return {key: abs(value - rounded[key]) for key, value in measured(exact, dataset).items()}


def main(arguments: list[str]) -> int:
    """Prints the largest difference of each number over all runs that are kept."""
    runs, folder = Path(arguments[0]), Path(arguments[1]) if len(arguments) > 1 else FOLDER
    pairs = [(run, folder / run.name) for run in finished(runs) if (folder / run.name).is_dir()]
    largest: Numbers = {}
    for run, kept in pairs:
        for key, value in moved(run, kept).items():
            largest[key] = max(value, largest.get(key, 0.0))
    for key, value in sorted(largest.items(), key=lambda item: -item[1]):
        print(f"{key}: {value:.1e}")
    print(f"{len(pairs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
