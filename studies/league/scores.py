"""`python -m studies.league.scores RUNS [RUNS]`: AUROC by scores of penultimate features, of what is compared.

Every run of the league's tables whose folder, with its checkpoint, is in one of RUNS is evaluated in a copy: all test
images against 900 of each foreign set.  Writes docs/results/league/feature_scores.json after each run: {run: {set:
{score: AUROC}}}.  Runs that are there already are left as they are.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from mixup_jax.evaluate import main as evaluate
from mixup_jax.metrics import table
from mixup_jax.runs.files import read_object, write_json
from studies.league.choose import FOLDER, SIZES, compared

FILE = "feature_scores.json"
TUNING = "uniform_noise"
"""The set by which the best score is chosen; it is in no table."""
SETS = ("mnist", "gaussian_noise", TUNING)
OF_FEATURES = tuple(score.key for score in table.SCORES if score.fit)

Aurocs = dict[str, dict[str, float]]
"""AUROC by foreign set and score."""


def aurocs(run: Path) -> Aurocs:
    """Returns the AUROC of each score of features, rounded to four digits; the run stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(run, Path(folder) / run.name)
        evaluate([f"--workdir={copy}", f"--datasets={','.join(SETS)}", "--features"])
        entries = read_object(copy / "evaluation.json")["ood"]
    return {name: {score: round(entries[name]["scores"][score]["auroc"], 4) for score in OF_FEATURES} for name in SETS}


def main(arguments: list[str]) -> int:
    """Scores the runs that are compared and not yet scored; prints how many there are."""
    path = FOLDER / FILE
    found = read_object(path) if path.is_file() else {}
    here = {run.name: run for folder in arguments for run in Path(folder).iterdir() if (run / "checkpoints").is_dir()}
    chosen = read_object(FOLDER / "chosen.json")["chosen"]
    runs = [run for size in SIZES for seeds in compared(size, chosen).values() for run in seeds.values()]
    for name in (run.name for run in runs):
        if name in here and name not in found:
            found[name] = aurocs(here[name])
            write_json(path, dict(sorted(found.items())))
    print(f"{len(found)} runs in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
