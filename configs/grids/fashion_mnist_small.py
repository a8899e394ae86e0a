"""Every method on the small Fashion-MNIST experiment, three seeds each, and mixup over its alpha.

Command    python -m mixup_jax.sweep --grid=configs/grids/fashion_mnist_small.py --output=runs/fashion_mnist_small
Cost       30 runs of about 3 minutes on one core.
"""

from mixup_jax.grid import PlannedRun, planned

CONFIG = "configs/fashion_mnist_small.py"
METHODS = ("erm", "mixup", "label_smoothing", "erl", "dropout", "feature_only", "label_only")
ALPHAS = (0.1, 0.4, 1.0)  # beside 0 (erm) and 0.2 (mixup)
SEEDS = range(3)


def get_grid() -> list[PlannedRun]:
    """Returns the runs: METHODS, then ALPHAS, each for all SEEDS."""
    runs = [run for name in METHODS for run in planned(name, f"{CONFIG}:{name}", seeds=SEEDS)]
    for alpha in ALPHAS:
        name = f"alpha_{alpha}"
        settings = {"method.mixup_alpha": alpha, "experiment": f"fashion_mnist_small/{name}"}
        runs += planned(name, f"{CONFIG}:mixup", seeds=SEEDS, settings=settings)
    return runs
