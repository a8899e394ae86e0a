"""Reads the data of a run and its evaluation: prepared sets, split and encoded, and noise."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import Vectors, arrays_folder, prepare_command, read_cache, write_cache
from mixup_jax.data.catalog import check_ood_name, dataset_spec, is_shift, training_spec
from mixup_jax.data.images import match_shape
from mixup_jax.data.own import fingerprint, is_own, own_spec, spec_of
from mixup_jax.data.sets import DatasetSpec, ExampleSet, train_validation_split
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.data.stream import open_own, open_streamed
from mixup_jax.data.synthetic import NOISES, PLANS, corrupted_images, noise_images, noise_tokens
from mixup_jax.data.text import Encoder, Vocabulary, build_vocabulary, embedding_table, load_vectors
from mixup_jax.errors import InputError, not_a_folder, unknown_name
from mixup_jax.escapes import print_line
from mixup_jax.metrics.logits import UNLABELLED

if TYPE_CHECKING:
    from mixup_jax.config import DataConfig

_log = logging.getLogger(__name__)


class TrainingData(NamedTuple):
    """Training and validation examples, which are disjoint parts of a training split, and the encoder of text."""

    train: ExampleSet
    validation: ExampleSet
    encoder: Encoder | None = None
    own_data: str | None = None
    own_spec: DatasetSpec | None = None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary of the training examples; None for images."""
        return None if self.encoder is None else self.encoder.vocabulary

    @property
    def facts(self) -> dict[str, Any]:
        """The data's facts in a checkpoint: SHA-256 of the vocabulary and of a user's set, and the latter's entry."""
        vocabulary = None if self.vocabulary is None else self.vocabulary.fingerprint
        own_spec = None if self.own_spec is None else asdict(self.own_spec)
        known = {"vocabulary": vocabulary, "own_data": self.own_data, "own_spec": own_spec}
        return {name: fact for name, fact in known.items() if fact is not None}


def run_spec(
    config: DataConfig, data_dir: str | os.PathLike[str] | None = None, report: Callable[[str], None] = print_line
) -> DatasetSpec:
    """Returns the entry of the set that a run trains on, with the config's statistics; see `catalog.training_spec`."""
    spec = training_spec(config.name, data_dir, report, config.image_size)
    imagenet = dataset_spec("imagenet2012")
    return spec if config.statistics == "own" else replace(spec, mean=imagenet.mean, std=imagenet.std)


def recorded_spec(
    facts: Mapping[str, Any], config: DataConfig, data_dir: str | os.PathLike[str] | None = None
) -> DatasetSpec:
    """Returns the entry of the set that a checkpoint was trained on; a user's own files need not be there any more."""
    own = facts.get("own_spec")
    if own is None:
        return run_spec(config, data_dir)
    try:
        return spec_of(own)
    except (TypeError, AttributeError) as error:
        raise InputError(f"own_spec of the checkpoint cannot be read ({error}); expected that of a data set") from error


def load_training_data(
    config: DataConfig, data_dir: str | os.PathLike[str], spec: DatasetSpec | None = None
) -> TrainingData:
    """Reads a prepared training split and divides it as the config says.

    `spec` is the result of `run_spec`, which looks at all files of a user's own set; without it, it is made here.

    The result depends on the config only, so training and evaluation get the same validation examples
    and the same vocabulary.  The vocabulary is made from the training examples (and from the commonest
    words of the vectors' file, see `DataConfig.common_words`).  A user's own validation split is used as it is.
    """
    spec = spec or run_spec(config, data_dir)
    opened = partial(open_split, spec, data_dir=data_dir, image_size=config.image_size, workers=config.workers)
    whole = opened("train")
    given, own = "validation" in spec.splits, is_own(config.name)
    own_data, own_spec = (fingerprint(spec, len(whole)), spec) if own else (None, None)
    rows, held_out = train_validation_split(
        len(whole),
        train_examples=config.train_examples,
        validation_examples=0 if given else config.validation_examples or max(1, len(whole) // 10),
        seed=config.split_seed,
    )
    source = f"{whole.source}; {len(held_out)} training examples held out, seed {config.split_seed}"
    train = whole.part(rows)
    validation = opened("validation") if given else whole.part(held_out, source)
    if not whole.are_texts:
        return TrainingData(train, validation, own_data=own_data, own_spec=own_spec)
    vectors = _vectors(config, data_dir)
    common = vectors.words[: config.common_words] if vectors else ()
    encoder = Encoder(build_vocabulary(train.array, common), config.max_tokens)
    return TrainingData(encoder.encoded(train), encoder.encoded(validation), encoder, own_data, own_spec)


def load_test(
    config: DataConfig, data_dir: str | os.PathLike[str], encoder: Encoder | None, spec: DatasetSpec | None = None
) -> ExampleSet:
    """Reads the test split of a run's data set; text needs the run's encoder.  `spec`: see `load_training_data`."""
    spec = spec or run_spec(config, data_dir)
    found = open_split(spec, "test", data_dir, image_size=config.image_size, workers=config.workers)
    return _encoded(found, config.name, encoder)


def load_ood(
    name: str,
    like: DatasetSpec,
    data_dir: str | os.PathLike[str],
    encoder: Encoder | None = None,
    n: int = 10_000,
    seed: int = 0,
) -> ExampleSet:
    """Returns an out-of-distribution set, ready for a network trained on `like`.

    The name is that of a data set, whose whole test split is brought to `like.shape` (see `images.match_shape`), or of
    noise or a corrupted set, which are generated.  Noise has n examples; its seed is the same for every run, so that
    all runs get the same examples.

    Returns:
      Images `[N, H, W, C]` of `like.shape` in pixel units (uint8; float32 for unclipped noise), or tokens
      int32 `[N, L]`; all labels are -1, except for a corrupted set, which keeps those of `like`.
    """
    check_ood_name(name, like)
    if name in PLANS:
        clean = read_split(like, "test", data_dir)
        source = f"generated: {name} of {clean.source}, seed {seed}"
        return ExampleSet(corrupted_images(name, clean.array, seed), clean.labels, source)
    if name in NOISES:
        return _noise(name, like, data_dir, encoder, n, seed)
    if is_own(name):
        spec = own_spec(name, data_dir, like=like)
        return _encoded(open_split(spec, "test", data_dir), name, encoder)
    found = _encoded(load_split(name, "test", data_dir), name, encoder)
    if is_shift(name, like):
        return found
    inputs = match_shape(found.array, like.shape) if like.task == "image" else found.array
    return ExampleSet(inputs, _unlabelled(len(inputs)), found.source)


def load_split(name: str, split: str, data_dir: str | os.PathLike[str]) -> ExampleSet:
    """Reads one split of a prepared data set that fits in memory: images, or texts without tokens.

    Normally it reads the decoded cache with numpy only.  If there is no cache, but tfds has built the set
    in `data_dir` as array_record, it decodes that once (half a minute for Fashion-MNIST) and writes the
    cache, unless the folder is read-only.  It never downloads and never loads TensorFlow.
    """
    return read_split(dataset_spec(name, data_dir), split, data_dir)


def read_split(spec: DatasetSpec, split: str, data_dir: str | os.PathLike[str]) -> ExampleSet:
    """Does what `load_split` does, for the entry of a set instead of its name."""
    name = spec.name
    if split not in spec.splits:
        raise unknown_name(f"split of {name}", split, spec.splits)
    folder = arrays_folder(data_dir, name)
    with _remedy(spec, data_dir):
        cached = read_cache(folder, split)
    if isinstance(cached, ExampleSet):
        return cached
    return _decode(spec, Path(data_dir).expanduser(), folder)[split]


@contextlib.contextmanager
def _remedy(spec: DatasetSpec, data_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Adds what to do to the message of an InputError: a damaged or incomplete cache is replaced as a whole."""
    try:
        yield
    except InputError as error:
        folder = arrays_folder(data_dir, spec.name)
        command = prepare_command(spec.name if spec.sources else spec.description, data_dir)
        raise InputError(f"{error}; to build it again, delete {folder} and run: {command}") from error


def first_embedding(
    config: DataConfig, vocabulary: Vocabulary, data_dir: str | os.PathLike[str], seed: int
) -> npt.NDArray[np.float32] | None:
    """Returns the initial word vectors of a run, float32 `[V, E]`; None if the config names none."""
    vectors = _vectors(config, data_dir)
    return None if vectors is None else embedding_table(vocabulary, vectors, seed)


def check_same_data(data: TrainingData, facts: Mapping[str, Any], workdir: Path) -> None:
    """Raises InputError unless a checkpoint with these facts was trained on these data."""
    trained, found = facts.get("vocabulary"), data.facts.get("vocabulary")
    if found != trained:
        raise InputError(
            f"{workdir} was trained with the vocabulary {trained}, but the prepared data give {found} (SHA-256 of the "
            "words); expected the data and word vectors that it was trained with"
        )
    if facts.get("own_data") != data.facts.get("own_data"):
        raise InputError(
            f"{workdir} was trained on other data than {data.train.source} has now (classes, examples, mean or "
            "deviation differ); expected the data that it was trained on, or a new run"
        )


def open_split(
    spec: DatasetSpec, split: str, data_dir: str | os.PathLike[str], *, image_size: int = 0, workers: int = 0
) -> ExampleSet:
    """Returns a split of any set, in memory or streamed."""
    if not spec.streams:
        return read_split(spec, split, data_dir)
    if spec.always_cut:
        return open_streamed(spec.sized(image_size), split, Path(data_dir).expanduser(), workers)
    with _remedy(spec, data_dir):
        return open_own(spec, split, Path(data_dir).expanduser())


def _encoded(examples: ExampleSet, name: str, encoder: Encoder | None) -> ExampleSet:
    """Returns texts as tokens, and other examples unchanged."""
    if not examples.are_texts:
        return examples
    if encoder is None:
        raise TypeError(f"{name} is a text data set: pass the encoder of the network's vocabulary")
    return encoder.encoded(examples)


def _noise(
    name: str, like: DatasetSpec, data_dir: str | os.PathLike[str], encoder: Encoder | None, n: int, seed: int
) -> ExampleSet:
    noise = NOISES[name]
    if n < 1:
        raise InputError(f"{name} was asked for n={n} examples; expected at least 1")
    if noise.task == "image":
        inputs = noise_images(noise, like, n, seed)
    elif encoder is None:
        raise TypeError(f"{name} is noise on texts: pass the encoder of the network's vocabulary")
    else:
        texts = read_split(like, "test", data_dir).array
        inputs = noise_tokens(np.count_nonzero(encoder.encode(texts), axis=1), encoder, n, seed)
    source = f"generated: {noise.description} ({like.name}, seed {seed})"
    return ExampleSet(inputs, _unlabelled(n), source)


def _unlabelled(n: int) -> npt.NDArray[np.int32]:
    return np.full(n, UNLABELLED, np.int32)


def _vectors(config: DataConfig, data_dir: str | os.PathLike[str]) -> Vectors | None:
    if not config.vectors:
        return None
    vectors = load_vectors(config.vectors, data_dir)
    size = vectors.vectors.shape[1]
    if size != config.vector_size:
        raise InputError(f"data.vector_size is {config.vector_size}; expected {size}, as in {vectors.source}")
    return vectors


def _decode(spec: DatasetSpec, data_dir: Path, folder: Path) -> Mapping[str, ExampleSet]:
    if not tfds_source.is_built(spec, data_dir):
        if os.path.lexists(data_dir) and not data_dir.is_dir():
            raise InputError(f"data folder {data_dir} {not_a_folder(data_dir)}; expected the folder of prepared data")
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
