"""The paper's rows on STL-10, VGG-16: every method of the paper, three seeds.

Command    python -m mixup_jax.sweep --grid=configs/grids/stl10.py --output=runs/stl10
Data       python -m mixup_jax.data --config=configs/stl10.py; docs/data.md says from where.
Cost       18 runs of 200 epochs of 4,500 images of 96 x 96: hours each on one accelerator, expected and not measured.
"""

from mixup_jax.grid import PlannedRun, planned_methods

CONFIG = "configs/stl10.py"
NETWORKS = ("vgg16",)
METHODS = ("erm", "mixup", "label_smoothing", "erl", "dropout", "feature_only")


def get_grid() -> list[PlannedRun]:
    """Returns the runs, network by network."""
    return [run for network in NETWORKS for run in planned_methods(CONFIG, METHODS, network=network)]
