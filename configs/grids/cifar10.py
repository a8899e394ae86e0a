"""The paper's rows on CIFAR-10, VGG-16 and ResNet-34: every method of the paper, three seeds.

Command    python -m mixup_jax.sweep --grid=configs/grids/cifar10.py --output=runs/cifar10
Data       python -m mixup_jax.data --config=configs/cifar10.py; docs/data.md says from where.
Cost       36 runs of 200 epochs of 45,000 images: hours each on one accelerator, expected and not measured.
"""

from mixup_jax.grid import PlannedRun, planned_methods

CONFIG = "configs/cifar10.py"
NETWORKS = ("vgg16", "resnet34")
METHODS = ("erm", "mixup", "label_smoothing", "erl", "dropout", "feature_only")


def get_grid() -> list[PlannedRun]:
    """Returns the runs, network by network."""
    return [run for network in NETWORKS for run in planned_methods(CONFIG, METHODS, network=network)]
