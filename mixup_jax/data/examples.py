"""The examples of a run: what it trains on, and what it holds out for every choice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.config import DataConfig
from mixup_jax.data.arrays import Arrays, Sentences, encode, load_arrays, load_sentences
from mixup_jax.data.cache import Vectors
from mixup_jax.data.catalog import training_spec
from mixup_jax.data.split import train_validation_split
from mixup_jax.data.tokens import Encoder, Vocabulary, build_vocabulary
from mixup_jax.data.vectors import embedding_table, load_vectors
from mixup_jax.errors import InputError


class Examples(NamedTuple):
    """The two parts of a training split, which have no example in common, and for text how it is encoded."""

    train: Arrays
    validation: Arrays
    encoder: Encoder | None = None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words that the training examples are encoded by; None for images."""
        return None if self.encoder is None else self.encoder.vocabulary


def load_examples(config: DataConfig, data_dir: str | os.PathLike[str]) -> Examples:
    """Reads a prepared training split and divides it as the config says.

    A function of the config alone: training and evaluation get the same validation examples, and for
    text the same vocabulary, which is made of the training examples (and of the commonest words of the
    vectors' file, see `DataConfig.common_words`).

    Raises:
      InputError: the data set is unknown, unfit for training or not prepared, or has fewer examples than
        are asked for; or the vectors are missing or of another size.
    """
    spec = training_spec(config.name)
    if spec.task == "image":
        arrays = load_arrays(config.name, "train", data_dir)
        train, validation, held_out = _divided(config, arrays)
        return Examples(
            Arrays(arrays.inputs[train], arrays.labels[train], arrays.source),
            Arrays(arrays.inputs[validation], arrays.labels[validation], held_out),
        )
    sentences = load_sentences(config.name, "train", data_dir)
    train, validation, held_out = _divided(config, sentences)
    texts = [sentences.texts[row] for row in train]
    vectors = _vectors(config, data_dir)
    common = vectors.words[: config.common_words] if vectors else ()
    encoder = Encoder(build_vocabulary(texts, common), config.max_tokens)
    rest = Sentences(tuple(sentences.texts[row] for row in validation), sentences.labels[validation], held_out)
    return Examples(
        encode(Sentences(tuple(texts), sentences.labels[train], sentences.source), encoder),
        encode(rest, encoder),
        encoder,
    )


def first_embedding(
    config: DataConfig, vocabulary: Vocabulary, data_dir: str | os.PathLike[str], seed: int
) -> npt.NDArray[np.float32] | None:
    """Returns the word vectors that a run begins with, float32 `[V, E]`; None where the config names none.

    Args:
      config: names the vectors.
      vocabulary: whose words are looked up.
      data_dir: the folder that `python -m mixup_jax.data` prepared.
      seed: of the run, for words without a vector.

    Raises:
      InputError: as `load_examples`.
    """
    vectors = _vectors(config, data_dir)
    return None if vectors is None else embedding_table(vocabulary, vectors, seed)


def check_vocabulary(vocabulary: Vocabulary | None, facts: Mapping[str, Any], workdir: Path) -> None:
    """Raises InputError unless a checkpoint with these facts was trained with this vocabulary."""
    trained = facts.get("vocabulary")
    found = None if vocabulary is None else vocabulary.fingerprint
    if found != trained:
        raise InputError(
            f"{workdir} was trained with the vocabulary {trained}, but the prepared data give {found} (SHA-256 of the "
            "words); expected the data and word vectors that it was trained with"
        )


def _vectors(config: DataConfig, data_dir: str | os.PathLike[str]) -> Vectors | None:
    if not config.vectors:
        return None
    vectors = load_vectors(config.vectors, data_dir)
    size = vectors.vectors.shape[1]
    if size != config.vector_size:
        raise InputError(f"data.vector_size is {config.vector_size}; expected {size}, as in {vectors.source}")
    return vectors


def _divided(
    config: DataConfig, examples: Arrays | Sentences
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], str]:
    train, validation = train_validation_split(
        len(examples.labels),
        train_examples=config.train_examples,
        validation_examples=config.validation_examples,
        seed=config.split_seed,
    )
    held_out = f"{examples.source}; {len(validation)} training examples held out, seed {config.split_seed}"
    return train, validation, held_out
