"""`python -m studies.settled.records RUNS [FOLDER]`: keeps, of finished runs, what the page is computed from.

Of each run: config.json, training.json (the last of every number in its training log) and predictions/*.npz, records
of the first rows of each set (`ROWS`).  Runs that FOLDER has already are left as they are.

Logits are kept in half precision, less the largest of their row: so the gaps between the likeliest classes, on which
confidence depends, keep eleven bits each, and no two classes become equal.  Scores that depend on what was taken away
(energy, largest logit) cannot be computed from them; no number of the pages does.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

from mixup_jax.runs.files import read_lines, read_object, write_json
from mixup_jax.runs.records import Predictions, load_record
from mixup_jax.runs.workdir import CHECKPOINTS, record_path

FOLDER = Path("docs/results/settled")
ROWS = {
    "fashion_mnist/test": 3500,
    "fashion_mnist/validation": 800,
    "mnist/test": 250,
    "gaussian_noise/test": 100,
    "corrupted/test": 900,
    "mr/test": 1056,
    "mr/validation": 800,
    "amazon_snippets/test": 250,
    "nyt_snippets/test": 250,
    "random_tokens/test": 250,
}
"""How many rows of each record are kept, as the protocol has it."""
FEWER = {"league": {"corrupted/test": 0}, "closer": {"corrupted/test": 0, "fashion_mnist/test": 2500}}
"""The same of other folders, where it differs: what these have no use for would be a sixth of their bytes."""
OF_LATER = {"fashion_mnist/test": 2000, "mnist/test": 0, "gaussian_noise/test": 0, "corrupted/test": 0}
"""The same of the runs of later blocks, which answer one question."""
LATER = re.compile(r"images_\d+_(width_\d+|long)_.*")
"""The names of these runs."""
WITH_CHECKPOINT = tuple(
    f"images_{regime}_alpha_{alpha}-0"
    for regime in ("1000_plain", "2500_plain", "10000_plain", "10000_augmented", "55000_plain")
    for alpha in ("0", "0.2")
)
"""Runs whose checkpoint is kept, so that anybody can give them test sets of their own."""


def keep(run: Path, folder: Path) -> None:
    """Writes what is kept of a finished run into a folder of its name, config.json last."""
    evaluation = read_object(run / "evaluation.json")
    step, target = evaluation["step"], folder / run.name
    names = [*evaluation["results"], *(f"{name}/test" for name in evaluation["ood"])]
    fewer = OF_LATER if LATER.fullmatch(run.name) else FEWER.get(folder.name, {})
    for name in dict.fromkeys(names):
        rows = (ROWS | fewer)[name]
        if rows:
            save_rows(record_path(target, name, step), load_record(record_path(run, name, step)), rows)
    if run.name in WITH_CHECKPOINT:
        shutil.copytree(run / CHECKPOINTS, target / CHECKPOINTS, dirs_exist_ok=True)
        for mark in target.rglob("commit_success.txt"):  # that it is there counts; orbax wrote where the run was
            mark.write_text("Checkpoint commit was successful")
    write_json(target / "training.json", training(run))
    write_json(target / "config.json", evaluation["config"])


def save_rows(path: Path, record: Predictions, rows: int) -> None:
    """Writes the first rows of a record; its config, which stands beside it, is left out of its meta."""
    meta = {key: value for key, value in record.meta.items() if key != "config"}
    meta["rows"] = f"the first {rows} of {len(record.labels)}, logits less the largest of their row"
    logits = record.logits[:rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        logits=(logits - logits.max(axis=1, keepdims=True)).astype(np.float16),
        labels=record.labels[:rows].astype(np.int8),
        meta=np.array(json.dumps(meta)),
    )


def training(run: Path) -> dict[str, float]:
    """Returns the last of every number in a run's log: the training loss is a mean over the steps before its line."""
    last: dict[str, float] = {}
    for line in read_lines(run / "metrics.jsonl"):
        last |= line
    return last


def finished(runs: Path) -> list[Path]:
    """Returns the folders that hold an evaluation, which is written last."""
    return sorted(path.parent for path in runs.glob("*/evaluation.json"))


def main(arguments: list[str]) -> int:
    """Keeps what is new; prints how many runs that were."""
    runs, folder = Path(arguments[0]), Path(arguments[1]) if len(arguments) > 1 else FOLDER
    new = [run for run in finished(runs) if not (folder / run.name / "config.json").is_file()]
    for run in new:
        keep(run, folder)
    print(f"{len(new)} runs kept in {folder}, {len(finished(runs)) - len(new)} were there")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
