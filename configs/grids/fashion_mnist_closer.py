"""Fashion-MNIST as near to the paper as CPUs allow: all images and augmentation, its network at a quarter of the width.

Command    python -m mixup_jax.sweep --grid=configs/grids/fashion_mnist_closer.py --output=runs/fashion_mnist_closer
Differs    from configs/fashion_mnist.py: width 16 instead of 64; 15 epochs instead of 200, the learning rate lowered at
           the same shares of them (60, 120 and 160 of 200 are 4.5, taken as 5, 9 and 12 of 15).
Afterwards Monte Carlo dropout: python -m mixup_jax.evaluate --workdir=RUN --mc_dropout=10 --save_as=RUN+mc10, and
           python -m studies.closer runs/fashion_mnist_closer, which writes docs/results/closer/README.md.
Cost       12 runs of 825,000 images: about 25 minutes of one core each.
"""

from mixup_jax.grid import PlannedRun, planned_methods

METHODS = ("erm", "mixup", "label_smoothing", "erl", "dropout", "feature_only")


def get_grid() -> list[PlannedRun]:
    """Returns the runs, seed by seed."""
    return planned_methods(
        "configs/fashion_mnist.py",
        METHODS,
        seeds=range(2),
        epochs=15,
        model__width=16,
        optimizer__step_epochs=(5, 9, 12),
        evaluation__every_epochs=5,
        evaluation__ood=("mnist", "gaussian_noise", "corrupted"),
        evaluation__ood_examples=2000,
        tensorboard=False,
    )
