"""Reads prepared data: the one door through which training and evaluation get examples."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import Arrays, Sentences, read_cache, write_cache
from mixup_jax.data.catalog import NOISES, DatasetSpec, NoiseSpec, check_ood_name, dataset_spec, is_shift
from mixup_jax.data.corruptions import PLANS, corrupted_images
from mixup_jax.data.ood import match_shape, noise_images, noise_tokens
from mixup_jax.data.paths import arrays_folder, prepare_command
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.data.tokens import Encoder
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics.logits import UNLABELLED

__all__ = ["Arrays", "Sentences", "encode", "load_arrays", "load_ood", "load_sentences", "load_split"]

_log = logging.getLogger(__name__)


def load_arrays(name: str, split: str, data_dir: str | os.PathLike[str], encoder: Encoder | None = None) -> Arrays:
    """Reads one split of a prepared data set, as networks take it.

    Args:
      name: a key of `catalog.DATASETS`.
      split: one of the set's splits.
      data_dir: the folder that `python -m mixup_jax.data` prepared.
      encoder: makes tokens of texts; not used for images.

    Returns:
      uint8 images `[N, H, W, C]` in pixel units or int32 tokens `[N, L]`, labels int32 `[N]`, and their
      source.

    Raises:
      InputError: as `load_split`.
    """
    examples = load_split(name, split, data_dir)
    if isinstance(examples, Arrays):
        return examples
    if encoder is None:
        raise TypeError(f"{name} is a text data set: pass the encoder of the network's vocabulary")
    return encode(examples, encoder)


def load_sentences(name: str, split: str, data_dir: str | os.PathLike[str]) -> Sentences:
    """Reads one split of a prepared text data set; raises InputError as `load_split`, or for a set of images."""
    examples = load_split(name, split, data_dir)
    if not isinstance(examples, Sentences):
        raise InputError(f"data set {name!r} holds images; expected a text data set")
    return examples


def encode(sentences: Sentences, encoder: Encoder) -> Arrays:
    """Returns sentences as tokens, int32 `[N, L]`."""
    return Arrays(encoder.encode(sentences.texts), sentences.labels, sentences.source)


def load_split(name: str, split: str, data_dir: str | os.PathLike[str]) -> Arrays | Sentences:
    """Reads one split of a prepared data set, as it is kept.

    Normally reads the decoded cache with numpy alone.  Where there is none but tfds has built the set
    in `data_dir` as array_record, decodes that once (half a minute for Fashion-MNIST) and writes the
    cache, unless the folder is read-only.  Never downloads and never loads TensorFlow.

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
    if isinstance(cached, Arrays | Sentences):
        return cached
    return _decode(spec, Path(data_dir).expanduser(), folder)[split]


def load_ood(
    name: str,
    like: DatasetSpec,
    data_dir: str | os.PathLike[str],
    encoder: Encoder | None = None,
    n: int = 10_000,
    seed: int = 0,
) -> Arrays:
    """Returns an out-of-distribution set, ready for a network trained on `like`.

    Args:
      name: a data set other than `like`, whose whole test split is taken and brought to `like.shape`
        (see `ood.match_shape`), a noise set or a corrupted one, which are generated; of the same task.
      like: the data set that the network was trained on.
      data_dir: as for `load_arrays`; not touched for noise on images.
      encoder: of the network, for text.
      n: how many examples of noise, at least 1; a data set is always taken whole.
      seed: of the noise, non-negative; the same for every run, so that all see the same examples.

    Returns:
      Images `[N, H, W, C]` of `like.shape` in pixel units (uint8; float32 for unclipped noise), or tokens
      int32 `[N, L]`; labels all -1, unless the set is `like` under a shift, which keeps them.

    Raises:
      InputError: unknown name, `like` itself, n < 1, or as `load_arrays`.
    """
    check_ood_name(name, like)
    if name in PLANS:
        clean = load_arrays(like.name, "test", data_dir)
        return Arrays(
            corrupted_images(name, clean.inputs, seed),
            clean.labels,
            f"generated: {name} of {clean.source}, seed {seed}",
        )
    if name in NOISES:
        if n < 1:
            raise InputError(f"{name} was asked for n={n} examples; expected at least 1")
        inputs = _noise(NOISES[name], like, data_dir, encoder, n, seed)
        source = f"generated: {NOISES[name].description} ({like.name}, seed {seed})"
    else:
        arrays = load_arrays(name, "test", data_dir, encoder)
        inputs, source = arrays.inputs, arrays.source
        if is_shift(name, like):
            return arrays
        if like.task == "image":
            inputs = match_shape(inputs, like.shape)
    return Arrays(inputs, np.full(len(inputs), UNLABELLED, np.int32), source)


def _noise(
    noise: NoiseSpec, like: DatasetSpec, data_dir: str | os.PathLike[str], encoder: Encoder | None, n: int, seed: int
) -> npt.NDArray[Any]:
    if noise.task == "image":
        return noise_images(noise, like, n, seed)
    if encoder is None:
        raise TypeError(f"{noise.name} is noise on texts: pass the encoder of the network's vocabulary")
    lengths = np.count_nonzero(load_arrays(like.name, "test", data_dir, encoder).inputs, axis=1)
    return noise_tokens(lengths, encoder, n, seed)


def _decode(spec: DatasetSpec, data_dir: Path, folder: Path) -> Mapping[str, Arrays | Sentences]:
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
