"""Does mixup help once a temperature is fitted, and where does it begin to hurt?  The grid of docs/results/settled.

Protocol   docs/results/settled/protocol.md, written before the first run.
Command    python -m mixup_jax.sweep --grid=configs/grids/settled.py --output=runs/settled --jobs=2
Elsewhere  SETTLED_KEPT=docs/results/settled before the command leaves out the runs whose records are there.
Data       python -m mixup_jax.data fashion_mnist mnist mr glove_6b_50d amazon_snippets nyt_snippets
Cost       200 image and 75 text networks, each half a minute to three minutes of one core: five hours of one core; then
           50 image networks in later blocks, wider or trained for longer: three hours.

The order makes every prefix useful: seed by seed, within a seed all cells, the cheap ones first.
"""

import os
from pathlib import Path

from mixup_jax.grid import PlannedRun, planned

FILE = "configs/fashion_mnist_small.py"
SEEDS = range(5)
ALPHAS = (0.0, 0.1, 0.2, 0.4, 1.0)  # 0 is ERM
IMAGE_EPOCHS = {1_000: 40, 2_500: 30, 10_000: 12, 55_000: 3}
"""Training images -> epochs; 55,000 is all that the 5,000 of validation leave."""
TEXT_EPOCHS = {1_000: 20, 3_000: 20, 8_562: 10}
"""Training sentences -> epochs; 8,562 is all that the 950 of validation leave."""

LATER = (
    ("width_16", {"model.width": 16}, (1_000, 10_000), IMAGE_EPOCHS),
    ("width_32", {"model.width": 32}, (1_000, 10_000), IMAGE_EPOCHS),
    ("long", {}, (10_000,), {10_000: 40}),
)
"""Later blocks without augmentation: name, settings, sizes and epochs of each."""
LATER_ALPHAS = (0.0, 0.2)

IMAGES = {
    "notes": "",
    "tensorboard": False,
    "batch_size": 64,
    "log_every_steps": 50,
    "model.name": "resnet8",
    "model.width": 8,
    "data.validation_examples": 5_000,
    "evaluation.ood": ("mnist", "gaussian_noise", "corrupted"),
    "evaluation.ood_examples": 900,
    "evaluation.record_epochs": (),
}
AUGMENTED = {"data.crop_padding": 4, "data.flip": True}
TEXTS = {
    "log_every_steps": 20,
    "tensorboard": False,
    "evaluation.ood": ("amazon_snippets", "nyt_snippets", "random_tokens"),
    "evaluation.ood_examples": 500,
}


def get_grid() -> list[PlannedRun]:
    """Returns the runs of every size, augmentation and alpha, seed by seed, and after them the later blocks."""
    runs = [run for seed in SEEDS for run in of_seed(seed)] + later()
    kept = os.environ.get("SETTLED_KEPT")
    return [run for run in runs if not (kept and (Path(kept) / run.name / "config.json").is_file())]


def of_seed(seed: int) -> list[PlannedRun]:
    """Returns all cells of one seed, which draws its own training and validation examples."""
    texts = [text(size, alpha, seed) for size in TEXT_EPOCHS for alpha in ALPHAS]
    small, large = list(IMAGE_EPOCHS)[:2], list(IMAGE_EPOCHS)[2:]
    return [*images(small, seed), *texts, *images(large, seed)]


def images(sizes: list[int], seed: int) -> list[PlannedRun]:
    """Returns the runs on Fashion-MNIST of some sizes."""
    return [image(size, plan, alpha, seed) for size in sizes for plan in ("plain", "augmented") for alpha in ALPHAS]


def image(size: int, plan: str, alpha: float, seed: int) -> PlannedRun:
    """Returns one run on Fashion-MNIST, with or without augmentation."""
    settings = IMAGES | (AUGMENTED if plan == "augmented" else {})
    return cell(FILE, f"images_{size}_{plan}", size, IMAGE_EPOCHS[size], alpha, seed, settings)


def later() -> list[PlannedRun]:
    """Returns the runs of the later blocks, block by block."""
    return [
        cell(FILE, f"images_{size}_{name}", size, epochs[size], alpha, seed, IMAGES | settings)
        for name, settings, sizes, epochs in LATER
        for seed in SEEDS
        for size in sizes
        for alpha in LATER_ALPHAS
    ]


def text(size: int, alpha: float, seed: int) -> PlannedRun:
    """Returns one run on MR."""
    return cell("configs/mr.py", f"texts_{size}", size, TEXT_EPOCHS[size], alpha, seed, TEXTS)


def cell(
    config: str, regime: str, size: int, epochs: int, alpha: float, seed: int, settings: dict[str, object]
) -> PlannedRun:
    """Returns the run of one regime, alpha and seed, validated and saved at the end alone."""
    name = f"{regime}_alpha_{alpha:g}"
    settings = settings | {
        "experiment": f"settled/{name}",
        "epochs": epochs,
        "data.train_examples": size,
        "data.split_seed": seed,
        "evaluation.every_epochs": epochs,
        "method.mixup_alpha": alpha,
    }
    return planned(name, f"{config}:{'mixup' if alpha else 'erm'}", seeds=[seed], settings=settings)[0]
