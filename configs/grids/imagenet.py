"""The paper's rows on ImageNet, ResNet-50 and ResNeXt-101 32x4d: every method of the paper, three seeds.

Command    python -m mixup_jax.sweep --grid=configs/grids/imagenet.py --output=runs/imagenet
Data       configs/imagenet.py says where it comes from.
Cost       36 runs of 90 epochs of 1.27 million photographs: for many accelerators.
"""

from mixup_jax.grid import PlannedRun, planned_methods

CONFIG = "configs/imagenet.py"
NETWORKS = ("resnet50", "resnext101_32x4d")
METHODS = ("erm", "mixup", "label_smoothing", "erl", "dropout", "feature_only")


def get_grid() -> list[PlannedRun]:
    """Returns the runs, network by network."""
    return [run for network in NETWORKS for run in planned_methods(CONFIG, METHODS, network=network)]
