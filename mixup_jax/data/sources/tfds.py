"""The only module that uses tensorflow-datasets, which is imported, like TensorFlow, when it is first needed.

Building a set (downloading, checking, encoding) needs TensorFlow.  Reading one that was built as
array_record does not; one that was built as tfrecord, tfds's own default, does.
"""

import contextlib
import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import manual_folder, prepare_command, require_writable
from mixup_jax.data.images import fit, open_upright
from mixup_jax.data.sets import DatasetSpec, ExampleSet, text_set
from mixup_jax.data.sources import (
    ORIGINALS,
    SPLITS,
    Found,
    Lazy,
    Originals,
    Rows,
    Say,
    Source,
    Splits,
    UnavailableError,
    can_reach,
    have_originals,
)
from mixup_jax.errors import InputError
from mixup_jax.libraries import load_tensorflow
from mixup_jax.progress import heartbeat

SECONDS_BETWEEN_REPORTS = 5.0
HEARTBEAT_SECONDS = 10.0
NOWHERE = "/nonexistent"
AS_TFRECORD = (
    "it is there as tfrecord, which `tfds convert_format --dataset_dir=.. --out_file_format=array_record` converts"
)


class TfdsError(Exception):
    """tensorflow-datasets could not build the set; the message says why, in one line."""


class Tfds(Source):
    """Sets that tensorflow-datasets has built, or builds from the user's files or from a download."""

    def at_hand(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits | None:
        """Reads a set that is built, or builds it from the files in the manual folder."""
        if is_built(spec, data_dir) or is_built(spec, data_dir, "tfrecord"):
            say(f"found as built by tensorflow-datasets in {data_dir / spec.tfds_name}")
            return _read(spec, data_dir, say)
        manual = manual_folder(data_dir, spec.name)
        if spec.streams:
            say(f"looking for the original files in {manual} and checking them, which takes minutes")
        if not have_originals(originals_of(spec), manual):
            return None
        return build_and_read(spec, data_dir, manual, say)

    def fetch(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits:
        """Lets tfds download the set; streamed sets are available to registered users only."""
        published = originals_of(spec)
        if spec.streams or not can_reach(published.url + next(iter(published.sha256))):
            raise UnavailableError(f"cannot download from {published.url}")
        say(f"downloading from {published.url}")
        try:
            return build_and_read(spec, data_dir, None, say)
        except TfdsError as error:
            raise UnavailableError(f"the download failed ({error})") from error

    def wanted(self, spec: DatasetSpec) -> str:
        """Names the published files."""
        return str(originals_of(spec))


def build_and_read(spec: DatasetSpec, data_dir: Path, manual: Path | None, say: Say) -> Splits:
    """Lets tfds build a set from the files in `manual`, or from a download, and reads it."""
    require_writable(data_dir)
    cost = "takes hours and as much disk again" if spec.streams else "takes about a minute"
    say("building with tensorflow-datasets" + (f" from the files in {manual}" if manual else "") + f", which {cost}")
    with heartbeat(lambda: say("still building"), HEARTBEAT_SECONDS):
        build(spec, data_dir, manual)
    return _read(spec, data_dir, say)


def _read(spec: DatasetSpec, data_dir: Path, say: Say) -> Splits:
    """Returns a built set as arrays; for a streamed set, it only checks that the splits exist."""
    if spec.streams:
        for split in spec.splits:
            open_split(spec, split, data_dir)
        return {}
    say("decoding to arrays, about half a minute")
    return decode(spec, data_dir, say)


def is_built(spec: DatasetSpec, data_dir: Path, file_format: str = "array_record") -> bool:
    """Returns whether tfds has built the set in `data_dir` as array_record (or tfrecord), judged by file names."""
    if not spec.tfds_name:
        return False
    # The name of a configuration may come between the name and the version.
    folder = data_dir / spec.tfds_name
    return any(any(folder.glob(f"{between}[0-9]*/*.{file_format}*")) for between in ("", "*/"))


def require_tensorflow(purpose: str) -> None:
    """Raises InputError, which starts with `purpose`, if TensorFlow is not installed; does not import it."""
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f'{purpose} needs TensorFlow, which is not installed; run: pip install "mixup_jax[tensorflow]"'
        )


def build(spec: DatasetSpec, data_dir: Path, manual_dir: Path | None) -> None:
    """Lets tfds write the set to `data_dir` as array_record and verify its checksums.

    Raises TfdsError if the download or the writing failed.
    """
    tfds = _import_tfds_with_tensorflow(f"building {spec.name}")
    try:
        builder = tfds.builder(spec.tfds_name, data_dir=str(data_dir), file_format="array_record")
        # tfds stores unpacked files by file name only, and MNIST and Fashion-MNIST have the same file names: in a
        # common folder, one could be taken for the other.
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=data_dir) as unpacked, _without_absl_warnings():
            config = tfds.download.DownloadConfig(
                manual_dir=str(manual_dir) if manual_dir else None,
                extract_dir=unpacked,
                force_checksums_validation=True,
            )
            builder.download_and_prepare(download_config=config)
    except Exception as error:
        # tfds passes on all exceptions of its downloader, its file systems and TensorFlow.
        first_line = next(iter(str(error).strip().splitlines()), "no message")
        raise TfdsError(f"{type(error).__name__}: {first_line}") from error


def originals_of(spec: DatasetSpec) -> Originals:
    """Returns the files that tfds downloads for a set, with their checksums; does not load TensorFlow."""
    if spec.name in ORIGINALS:
        return ORIGINALS[spec.name]
    infos = _import_tfds().builder(spec.tfds_name, data_dir=NOWHERE).url_infos
    sha256 = {info.filename or url.rpartition("/")[2]: info.checksum for url, info in infos.items()}
    return Originals(next(iter(infos)).rpartition("/")[0] + "/", sha256)


def undecoded(builder: Any, split: str, image: str | None) -> Any:
    """Returns a split with random access, in which the feature `image` is the bytes of a file, not pixels."""
    decoders = {image: _import_tfds().decode.SkipDecoding()} if image else None
    return builder.as_data_source(split=split, decoders=decoders)


def decode(spec: DatasetSpec, data_dir: Path, report: Say) -> dict[str, ExampleSet]:
    """Reads every split of a built set into memory, in tfds's order.

    It takes about 0.4 ms for an image of 28x28, and reports progress every few seconds.
    """
    if is_built(spec, data_dir, "tfrecord") and not is_built(spec, data_dir):
        tfds = _import_tfds_with_tensorflow(f"reading {spec.name}, built as tfrecord in {data_dir},")
        builder = tfds.builder(spec.tfds_name, data_dir=str(data_dir))
        examples = {split: tfds.as_numpy(builder.as_dataset(split=theirs)) for split, theirs in spec.splits.items()}
    else:
        builder = _builder(spec.tfds_name, data_dir)
        examples = {split: builder.as_data_source(split=theirs) for split, theirs in spec.splits.items()}
    source = f"tensorflow-datasets {builder.info.full_name}"
    gather = collect_texts if spec.task == "text" else collect
    with _without_absl_warnings():
        return {split: gather(spec, split, examples[split], source, report) for split in spec.splits}


def open_split(spec: DatasetSpec, split: str, data_dir: Path) -> Any:
    """Returns a built split by random access: a sequence of dictionaries with image files as bytes, not decoded.

    Loads no TensorFlow.
    """
    if not is_built(spec, data_dir):
        remedy = f"run: {prepare_command(spec.name, data_dir)}"
        if is_built(spec, data_dir, "tfrecord"):
            remedy = AS_TFRECORD
        raise InputError(
            f"data set {spec.name!r} is not prepared in {data_dir} (looked for {data_dir / spec.tfds_name} in "
            f"array_record format); {remedy}"
        )
    builder, theirs = _builder(spec.tfds_name, data_dir), spec.splits[split]
    if theirs not in builder.info.splits:
        raise InputError(
            f"{builder.data_dir} lacks the split {theirs!r}; expected {', '.join(spec.splits.values())}: delete it, "
            f"put all original files in place and run: {prepare_command(spec.name, data_dir)}"
        )
    return undecoded(builder, theirs, "image")


def source_of(spec: DatasetSpec, data_dir: Path) -> str:
    """Returns a line about the source of the examples of a built set."""
    return f"tensorflow-datasets {_builder(spec.tfds_name, data_dir).info.full_name}"


def collect(spec: DatasetSpec, split: str, examples: Iterable[dict[str, Any]], source: str, report: Say) -> ExampleSet:
    """Stacks tfds's examples, dictionaries with an image and a label, into arrays."""
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    kept: Counter[int] = Counter()
    last = monotonic()
    for example in examples:
        label = int(example[spec.label])
        unwanted = bool(spec.keep_classes) and label not in spec.keep_classes
        if unwanted or (spec.per_class and kept[label] >= spec.per_class):
            continue
        image = np.asarray(example["image"])
        if spec.resized and image.dtype == np.uint8:
            image = fit(open_upright(image), spec.shape)
        if image.shape != spec.shape or image.dtype != np.uint8 or not 0 <= label < spec.classes:
            raise InputError(
                f"{spec.name}/{split} example {len(labels)} is {image.dtype} {list(image.shape)} with label {label}; "
                f"expected uint8 {list(spec.shape)} and a label from 0 to {spec.classes - 1}"
            )
        images.append(image)
        labels.append(label)
        kept[label] += 1
        if monotonic() - last > SECONDS_BETWEEN_REPORTS:
            last = monotonic()
            report(f"decoding {split}: {len(labels):,} images so far")
    return ExampleSet(np.stack(images), np.array(labels, np.int32), source)


def collect_texts(
    spec: DatasetSpec, split: str, examples: Iterable[dict[str, Any]], source: str, report: Say
) -> ExampleSet:
    """Returns tfds's examples, dictionaries with a text and a label; each run of white space becomes one space."""
    report(f"decoding {split}")
    pairs = [(example["text"], int(example[spec.label])) for example in examples]
    texts = (text.decode() if isinstance(text, bytes) else str(text) for text, _ in pairs)
    return text_set([" ".join(text.split()) for text in texts], [label for _, label in pairs], source)


def _import_tfds() -> Any:
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    return tfds


def _builder(tfds_name: str, data_dir: Path) -> Any:
    return _import_tfds().builder(tfds_name, data_dir=str(data_dir), file_format="array_record")


def _import_tfds_with_tensorflow(purpose: str) -> Any:
    require_tensorflow(purpose)
    load_tensorflow()
    return _import_tfds()


@contextlib.contextmanager
def _without_absl_warnings() -> Iterator[None]:
    # For example that OpenCV is absent, which is not needed here.
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def stamp(place: str, data_dir: Path) -> str:
    """Returns the set's full name with its version, and how many examples it has."""
    info = built(place, data_dir).info
    return f"{info.full_name} {[(split, facts.num_examples) for split, facts in sorted(info.splits.items())]}"


def find(place: str, data_dir: Path, labelled: bool) -> Found:
    """Opens a set (NAME or NAME/CONFIG) that was built in the data folder, or lets tfds build it there."""
    builder = built(place, data_dir)
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
            examples = undecoded(builder, split, inputs[0] if task == "image" else None)
            labels = [int(example[label]) for example in examples] if labelled else None
            splits[SPLITS[split]] = Rows(_column(examples, inputs[0]), labels)
    if not splits:
        raise InputError(f"tfds:{place} has the splits {', '.join(builder.info.splits)}; expected train or test")
    return Found(splits, tuple(features[label].names) if labelled else None, task)


def _column(examples: Any, name: str) -> Lazy:
    """Returns one feature of tfds's examples, read by row."""
    return Lazy(range(len(examples)), lambda row: examples[row][name])


def built(place: str, data_dir: Path) -> Any:
    """Returns tfds's builder of a set; first builds the set as array_record if necessary.

    Raises InputError if tfds does not know or cannot build it, or has built it in another format.
    """
    spec = DatasetSpec(name=place, tfds_name=place, classes=0, splits={}, description="")
    try:
        if not is_built(spec, data_dir):
            if is_built(spec, data_dir, "tfrecord"):
                raise TfdsError(AS_TFRECORD)
            require_writable(data_dir)
            build(spec, data_dir, None)
        return _builder(place, data_dir)
    except TfdsError as error:
        raise InputError(
            f"tfds:{place} cannot be had ({error}); expected a name of tensorflow-datasets, built in {data_dir} or "
            "within reach of the network"
        ) from error
