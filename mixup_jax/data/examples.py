"""The examples of a run: what it trains on, and what it holds out for every choice."""

from __future__ import annotations

import os
from typing import NamedTuple

from mixup_jax.config import DataConfig
from mixup_jax.data.arrays import Arrays, load_arrays
from mixup_jax.data.split import train_validation_split


class Examples(NamedTuple):
    """The two parts of a training split; they have no example in common."""

    train: Arrays
    validation: Arrays


def load_examples(config: DataConfig, data_dir: str | os.PathLike[str]) -> Examples:
    """Reads a prepared training split and divides it as the config says.

    A function of the config alone: training and evaluation get the same validation examples.

    Raises:
      InputError: the data set is unknown or not prepared, or has fewer examples than are asked for.
    """
    arrays = load_arrays(config.name, "train", data_dir)
    train, validation = train_validation_split(
        len(arrays.labels),
        train_examples=config.train_examples,
        validation_examples=config.validation_examples,
        seed=config.split_seed,
    )
    held_out = f"{arrays.source}; {len(validation)} training images held out, seed {config.split_seed}"
    return Examples(
        Arrays(arrays.images[train], arrays.labels[train], arrays.source),
        Arrays(arrays.images[validation], arrays.labels[validation], held_out),
    )
