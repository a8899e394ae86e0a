"""The package's side of the check against a program in PyTorch, studies/independent.py, which has the design.

Command    python -m mixup_jax.sweep --grid=configs/grids/independent.py --output=runs/independent --jobs=2
Cost       10 runs of 150,000 images: about 3 minutes each on one core.
"""

from mixup_jax.grid import PlannedRun, planned_methods


def get_grid() -> list[PlannedRun]:
    """Returns ERM and mixup, five seeds each, on one subset of images."""
    return planned_methods(
        "configs/quickstart.py",
        ("erm", "mixup"),
        seeds=range(5),
        notes="",
        epochs=30,
        batch_size=128,
        data__train_examples=5000,
        evaluation__every_epochs=30,
        evaluation__ood=(),
    )
