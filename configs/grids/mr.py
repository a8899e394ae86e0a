"""The paper's text experiment on MR: five seeds of each method, all with Kim's dropout, and ERM without it.

Command    python -m mixup_jax.sweep --grid=configs/grids/mr.py --output=runs/mr
Afterwards Monte Carlo dropout, of the networks of erm:
           python -m mixup_jax.evaluate --workdir=runs/mr/erm-0 --mc_dropout=10 --save_as=runs/mr/mc_dropout-0
Cost       25 runs of about 2 minutes on one core.
"""

from mixup_jax.grid import PlannedRun, planned

CONFIG = "configs/mr.py"
METHODS = ("erm", "mixup", "label_smoothing", "erl")
SEEDS = range(5)


def get_grid() -> list[PlannedRun]:
    """Returns the runs, seed by seed, so that an interrupted grid has whole comparisons."""
    runs = [run for seed in SEEDS for name in METHODS for run in planned(name, f"{CONFIG}:{name}", seeds=[seed])]
    settings = {"model.dropout": 0.0, "experiment": "mr/no_dropout"}
    return runs + planned("no_dropout", f"{CONFIG}:erm", seeds=SEEDS, settings=settings)
