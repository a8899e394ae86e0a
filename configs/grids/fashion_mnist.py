"""The paper's sweeps on Fashion-MNIST at full size: mixup's alpha, label smoothing's epsilon, the entropy's kappa.

Command    python -m mixup_jax.sweep --grid=configs/grids/fashion_mnist.py --output=runs/fashion_mnist
Cost       60 runs of 200 epochs: for accelerators. The same for another data set: change CONFIG.
"""

from mixup_jax.grid import PlannedRun, planned

CONFIG = "configs/fashion_mnist.py"
SEEDS = range(3)
ALPHAS = [round(0.1 * step, 1) for step in range(11)]  # 0 is ERM
EPSILONS = (0.01, 0.05, 0.1, 0.2)
KAPPAS = (0.01, 0.05, 0.1, 0.2, 0.5)


def get_grid() -> list[PlannedRun]:
    """Returns the runs of every alpha, epsilon and kappa, for all SEEDS."""
    return [
        *swept("mixup", "method.mixup_alpha", ALPHAS),
        *swept("label_smoothing", "method.label_smoothing", EPSILONS),
        *swept("erl", "method.entropy_weight", KAPPAS),
    ]


def swept(variant: str, key: str, values: list[float] | tuple[float, ...]) -> list[PlannedRun]:
    """Returns the runs of one variant with one number at several values."""
    runs = []
    for value in values:
        settings = {key: value, "experiment": f"fashion_mnist/{variant}_{value}"}
        runs += planned(f"{variant}_{value}", f"{CONFIG}:{variant}", seeds=SEEDS, settings=settings)
    return runs
