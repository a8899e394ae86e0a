"""Any data set of tensorflow-datasets, by its name."""

from pathlib import Path
from typing import Any

from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.data.sources.rows import SPLITS, Found, Lazy, Rows
from mixup_jax.data.sources.tfds import TfdsError
from mixup_jax.errors import InputError


def stamp(place: str, data_dir: Path) -> str:
    """Returns the set's full name with its version, and how many examples it has."""
    info = _builder(place, data_dir).info
    return f"{info.full_name} {[(split, facts.num_examples) for split, facts in sorted(info.splits.items())]}"


def find(place: str, data_dir: Path, labelled: bool) -> Found:
    """Opens a set (NAME or NAME/CONFIG) that was built in the data folder, or lets tfds build it there."""
    builder = _builder(place, data_dir)
    features = builder.info.features
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    of_kind = {wanted: [name for name, kind in kinds.items() if kind == wanted] for wanted in ("Image", "Text")}
    inputs = of_kind["Image"] or of_kind["Text"]
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    label = "label" if "label" in classes else classes[0] if len(classes) == 1 else None
    if len(inputs) != 1 or (labelled and label is None):
        raise InputError(f"tfds:{place} has the features {kinds}; expected one Image or Text, and one ClassLabel")
    task = "image" if kinds[inputs[0]] == "Image" else "text"
    splits = {}
    for split in builder.info.splits:
        if split in SPLITS:
            examples = tfds_source.undecoded(builder, split, inputs[0] if task == "image" else None)
            labels = [int(example[label]) for example in examples] if labelled else None
            splits[SPLITS[split]] = Rows(_column(examples, inputs[0]), labels)
    if not splits:
        raise InputError(f"tfds:{place} has the splits {', '.join(builder.info.splits)}; expected train or test")
    return Found(splits, tuple(features[label].names) if labelled else None, task)


def _column(examples: Any, name: str) -> Lazy:
    """Returns one feature of tfds's examples, read by row."""
    return Lazy(range(len(examples)), lambda row: examples[row][name])


def _builder(place: str, data_dir: Path) -> Any:
    try:
        return tfds_source.built(place, data_dir)
    except TfdsError as error:
        raise InputError(
            f"tfds:{place} cannot be had ({error}); expected a name of tensorflow-datasets, built in {data_dir} or "
            "within reach of the network"
        ) from error
