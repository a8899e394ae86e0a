"""Every experiment of the paper at full size: all its data sets, networks and methods, and its extended training.

Paper      Thulasidasan et al., "On Mixup Training", NeurIPS 2019 (arXiv 1905.11001); docs/reproduction.md, row by row.
Command    python -m mixup_jax.sweep --grid=configs/grids/paper.py --output=runs/paper --dry_run    # what there is
           python launch/sweep.py --grid=configs/grids/paper.py --output=runs/paper --gpus=1 --address=auto  # cluster
One row    the grid of its data set: stl10, cifar10, cifar100, imagenet, mr, trec or imdb; of Fashion-MNIST this file.
Sweeps     of alpha, epsilon and kappa: configs/grids/fashion_mnist.py.
Afterwards temperature scaling is in every evaluation; Monte Carlo dropout of the runs called dropout (of text: erm) is
           python -m mixup_jax.evaluate --workdir=RUN --mc_dropout=10 --save_as=RUN+mc10
Cost       182 runs, most of 200 epochs: for accelerators.  ImageNet's 36 cost the most, and come last.
"""

from mixup_jax.grid import PlannedRun, planned_methods

METHODS = ("erm", "mixup", "label_smoothing", "erl", "dropout", "feature_only")
TEXT_METHODS = ("erm", "mixup", "label_smoothing", "erl")  # all with dropout, as Kim's network has it
IMAGES = (
    ("configs/stl10.py", "vgg16"),
    ("configs/cifar10.py", "vgg16"),
    ("configs/cifar10.py", "resnet34"),
    ("configs/cifar100.py", "vgg16"),
    ("configs/cifar100.py", "resnet34"),
    ("configs/fashion_mnist.py", "resnet18"),
)
TEXTS = ("configs/mr.py", "configs/trec.py", "configs/imdb.py")
IMAGENET = ("resnet50", "resnext101_32x4d")
FIGURE_1 = (0, 50, 100, 150, 200)
"""Epochs whose validation records are kept, as in the paper's first figure."""
EXTENDED_EPOCHS = 1000  # how many the paper's extended training took is not known to us


def get_grid() -> list[PlannedRun]:
    """Returns the runs, data set by data set."""
    runs = [run for config in TEXTS for run in planned_methods(config, TEXT_METHODS)]
    for config, network in IMAGES:
        runs += planned_methods(config, METHODS, network=network, evaluation__record_epochs=FIGURE_1)
    runs += extended()
    return runs + [
        run for network in IMAGENET for run in planned_methods("configs/imagenet.py", METHODS, network=network)
    ]


def extended() -> list[PlannedRun]:
    """Returns the runs of the extended training, which asks whether mixup stays calibrated."""
    runs = planned_methods(
        "configs/cifar100.py",
        ("erm", "mixup"),
        network="vgg16",
        seeds=[0],
        epochs=EXTENDED_EPOCHS,
        evaluation__every_epochs=10,
        evaluation__record_epochs=tuple(range(0, EXTENDED_EPOCHS + 1, 100)),
    )
    return [PlannedRun(f"extended_{run.name}", run.config, run.settings) for run in runs]
