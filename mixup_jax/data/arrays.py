"""Reads prepared data: the one door through which training and evaluation get images."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from mixup_jax.data import tfds_source
from mixup_jax.data.cache import Arrays, read_cache, write_cache
from mixup_jax.data.catalog import NOISES, DatasetSpec, check_ood_name, dataset_spec
from mixup_jax.data.ood import match_shape, noise_images
from mixup_jax.data.paths import arrays_folder, prepare_command
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.records import UNLABELLED

__all__ = ["Arrays", "load_arrays", "load_ood"]

_log = logging.getLogger(__name__)


def load_arrays(name: str, split: str, data_dir: str | os.PathLike[str]) -> Arrays:
    """Reads one split of a prepared data set.

    Normally reads the decoded cache with numpy alone.  Where there is none but tfds has built the set
    in `data_dir` as array_record, decodes that once (half a minute for Fashion-MNIST) and writes the
    cache, unless the folder is read-only.  Never downloads and never loads TensorFlow.

    Args:
      name: a key of `catalog.DATASETS`.
      split: one of the set's splits.
      data_dir: the folder that `python -m mixup_jax.data` prepared.

    Returns:
      uint8 images `[N, H, W, C]` in pixel units, labels int32 `[N]`, and their source.

    Raises:
      InputError: the name or split is unknown, the set is not prepared, or its cache lacks the split
        or is damaged; the message has the command to run.
    """
    spec = dataset_spec(name)
    if split not in spec.splits:
        raise unknown_name(f"split of {name}", split, spec.splits)
    folder = arrays_folder(data_dir, name)
    try:
        cached = read_cache(folder, split)
    except InputError as error:
        # A cache that lacks a split or is damaged can only be replaced as a whole.
        remedy = f"to build it again, delete {folder} and run: {prepare_command(name, data_dir)}"
        raise InputError(f"{error}; {remedy}") from error
    if cached is not None:
        return cached
    return _decode(spec, Path(data_dir).expanduser(), folder)[split]


def load_ood(name: str, like: DatasetSpec, data_dir: str | os.PathLike[str], n: int = 10_000, seed: int = 0) -> Arrays:
    """Returns an out-of-distribution set, ready for a network trained on `like`.

    Args:
      name: a data set other than `like`, whose whole test split is taken and brought to `like.shape`
        (see `ood.match_shape`), or a noise set, which is generated.
      like: the data set that the network was trained on.
      data_dir: as for `load_arrays`; not touched for noise.
      n: how many images of noise, at least 1; a data set is always taken whole.
      seed: of the noise, non-negative; the same for every run, so that all see the same images.

    Returns:
      Images `[N, H, W, C]` of `like.shape` in pixel units (uint8; float32 for unclipped noise), labels
      all -1.

    Raises:
      InputError: unknown name, `like` itself, n < 1, or as `load_arrays`.
    """
    check_ood_name(name, like)
    if name in NOISES:
        if n < 1:
            raise InputError(f"{name} was asked for n={n} images; expected at least 1")
        images = noise_images(NOISES[name], like, n, seed)
        source = f"generated: {NOISES[name].description} ({like.name}, seed {seed})"
    else:
        arrays = load_arrays(name, "test", data_dir)
        images, source = match_shape(arrays.images, like.shape), arrays.source
    return Arrays(images, np.full(len(images), UNLABELLED, np.int32), source)


def _decode(spec: DatasetSpec, data_dir: Path, folder: Path) -> dict[str, Arrays]:
    if not tfds_source.is_built(spec, data_dir):
        raise InputError(
            f"data set {spec.name!r} is not prepared in {data_dir} (looked for {folder} and for "
            f"{data_dir / spec.tfds_name} in array_record format); run: {prepare_command(spec.name, data_dir)}"
        )
    splits = tfds_source.decode(spec, data_dir, _log.info)
    try:
        write_cache(folder, splits)
    except OSError as error:
        _log.warning("cannot keep the decoded %s in %s (%s): every run will decode it again", spec.name, folder, error)
    return splits
