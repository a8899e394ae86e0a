"""Prepares a data set on disk from the first of its sources that has it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mixup_jax.data.cache import (
    arrays_folder,
    cached_splits,
    manual_folder,
    prepare_command,
    read_cache,
    require_writable,
    write_cache,
)
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.describe import check
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.data.sources.debian import Debian
from mixup_jax.data.sources.published import Say, Source, Splits, UnavailableError, timed
from mixup_jax.data.sources.pypi import Digits
from mixup_jax.data.sources.texts import Snippets, Trec
from mixup_jax.data.sources.tfds import Tfds
from mixup_jax.errors import InputError
from mixup_jax.escapes import print_line

SOURCES: dict[str, Source] = {
    "tfds": Tfds(),
    "debian": Debian(),
    "digits": Digits(),
    "snippets": Snippets(),
    "trec": Trec(),
}
"""The sources by their names in the catalogue."""


def prepare(name: str, data_dir: str | os.PathLike[str], report: Callable[[str], None] = print_line) -> None:
    """Prepares a data set so that `load.load_split` can read it; does nothing if that is done.

    Its sources are tried in order, first for files on this machine (built by tensorflow-datasets, or put into
    `<data_dir>/downloads/manual/<name>/` by the user), then for the network.  Published checksums are verified.
    A set that is too large for memory stays as tensorflow-datasets builds it.

    Raises:
      InputError: unknown name, a folder that cannot be written, TensorFlow missing where it is
        needed, a wrong file in the manual folder, no source in reach, or data that contradict the
        catalogue; the message says what to do.
      TfdsError: tfds failed on files that are right, which is no mistake of the user.
    """
    spec, data_dir = dataset_spec(name), Path(data_dir).expanduser()
    folder = arrays_folder(data_dir, name)
    say = timed(report, name)
    if _is_intact(folder, say):
        say(f"already prepared in {folder}")
        return
    if not spec.streams:
        require_writable(data_dir)
    splits = _obtain(spec, data_dir, say)
    for split, examples in splits.items():
        check(spec, split, examples)
    if splits:
        say(f"writing arrays to {folder}")
        write_cache(folder, splits)
    say("prepared")


def _is_intact(folder: Path, say: Say) -> bool:
    try:
        splits = cached_splits(folder)
        for split in splits:
            read_cache(folder, split)
    except InputError as error:
        say(f"preparing it again, because {error}")
        return False
    return bool(splits)


def _obtain(spec: DatasetSpec, data_dir: Path, say: Say) -> Splits:
    sources, reasons = [SOURCES[name] for name in spec.sources], []
    try:
        for source in sources:
            found = source.at_hand(spec, data_dir, say)
            if found is not None:
                return found
    except UnavailableError as error:
        raise _nowhere(spec, data_dir, [str(error)]) from error
    for source in sources:
        try:
            found = source.fetch(spec, data_dir, say)
        except UnavailableError as error:
            say(str(error))
            reasons.append(str(error))
        else:
            if found is not None:
                return found
    raise _nowhere(spec, data_dir, reasons)


def _nowhere(spec: DatasetSpec, data_dir: Path, reasons: list[str]) -> InputError:
    wanted = "; or ".join(filter(None, (SOURCES[name].wanted(spec) for name in spec.sources)))
    return InputError(
        f"{spec.name} cannot be had ({'; '.join(reasons)}); put its files into {manual_folder(data_dir, spec.name)}: "
        f"{wanted}; then run: {prepare_command(spec.name, data_dir)}"
    )
