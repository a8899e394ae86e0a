"""The paper's row on IMDB: every method of the paper with Kim's sentence CNN, three seeds.

Command    python -m mixup_jax.sweep --grid=configs/grids/imdb.py --output=runs/imdb
Afterwards Monte Carlo dropout, of the networks of erm:
           python -m mixup_jax.evaluate --workdir=RUN --mc_dropout=10 --save_as=RUN+mc10
Cost       12 runs: not measured.
"""

from mixup_jax.grid import PlannedRun, planned_methods

METHODS = ("erm", "mixup", "label_smoothing", "erl")


def get_grid() -> list[PlannedRun]:
    """Returns the runs, seed by seed."""
    return planned_methods("configs/imdb.py", METHODS)
