"""The data sets and the synthetic noise sets that a configuration may name."""

from __future__ import annotations

from dataclasses import dataclass

from mixup_jax.errors import InputError, unknown_name


@dataclass(frozen=True)
class DatasetSpec:
    """What is known about a labelled image data set before a byte of it is read.

    Attributes:
      name: how configurations name it.
      tfds_name: its name in tensorflow-datasets.
      classes: the number of classes K; labels are 0 to K - 1.
      shape: (H, W, C) of every image.
      mean: per-channel mean of the training set's pixels divided by 255, so within [0, 1].
      std: per-channel standard deviation of the same pixels, in the same units (population, not sample).
      class_names: the K names, in the order of the labels.
      splits: the splits it comes in.
      description: one line on what it shows and where it is from.
    """

    name: str
    tfds_name: str
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class NoiseSpec:
    """A synthetic out-of-distribution set: every pixel an independent normal draw.

    Attributes:
      name: how configurations name it.
      clip: whether pixels are rounded and clipped to 0..255, as an image file would hold them.
      description: one line on what it is.
    """

    name: str
    clip: bool
    description: str


DATASETS: dict[str, DatasetSpec] = {
    "fashion_mnist": DatasetSpec(
        name="fashion_mnist",
        tfds_name="fashion_mnist",
        classes=10,
        shape=(28, 28, 1),
        # Measured on all 60,000 training images; `python -m mixup_jax.data` checks it again.
        mean=(0.28604060,),
        std=(0.35302424,),
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        splits=("train", "test"),
        description="grey 28x28 photographs of clothing, 60,000 + 10,000 (Xiao, Rasul and Vollgraf, 2017; MIT licence)",
    ),
    "mnist": DatasetSpec(
        name="mnist",
        tfds_name="mnist",
        classes=10,
        shape=(28, 28, 1),
        # The customary published values, to the four digits they are published with.
        mean=(0.1307,),
        std=(0.3081,),
        class_names=tuple(str(digit) for digit in range(10)),
        splits=("train", "test"),
        description="grey 28x28 handwritten digits, 60,000 + 10,000 (LeCun, Cortes and Burges, 1998)",
    ),
}

NOISES: dict[str, NoiseSpec] = {
    "gaussian_noise": NoiseSpec(
        name="gaussian_noise",
        clip=False,
        description="independent normal pixels with the training set's mean and variance, real numbers, not clipped",
    ),
    "gaussian_noise_clipped": NoiseSpec(
        name="gaussian_noise_clipped",
        clip=True,
        description="the same draws rounded and clipped to 0..255, which moves their mean and variance",
    ),
}


def dataset_spec(name: str) -> DatasetSpec:
    """Returns the entry of a data set.

    Raises:
      InputError: no data set has this name; the message lists those there are.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def check_ood_name(name: str, like: DatasetSpec) -> None:
    """Accepts the name of a data set other than `like`, the in-distribution one, or of a noise set.

    Raises:
      InputError: it is neither; the message lists both kinds.
    """
    choices = [*(dataset for dataset in DATASETS if dataset != like.name), *NOISES]
    if name == like.name:
        raise InputError(
            f"out-of-distribution set {name!r} is the data set that is in-distribution here; "
            f"choose one of: {', '.join(sorted(choices))}"
        )
    if name not in choices:
        raise unknown_name("out-of-distribution set", name, choices)
