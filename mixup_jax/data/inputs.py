"""What enters a network, by the kind of data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax

from mixup_jax.config import DataConfig
from mixup_jax.data.augment import standardise
from mixup_jax.data.catalog import DatasetSpec
from mixup_jax.errors import InputError


def inputs_of(spec: DatasetSpec) -> Callable[[jax.Array], jax.Array]:
    """Returns what maps a batch to a network's inputs: pixels are standardised, tokens go in as they are."""
    if spec.task == "text":
        return lambda tokens: tokens
    return partial(standardise, mean=spec.mean, std=spec.std)


def check_augmentation(config: DataConfig, spec: DatasetSpec) -> None:
    """Raises InputError where texts are to be cropped or mirrored."""
    if spec.task == "text" and (config.crop_padding or config.flip):
        raise InputError(
            f"data.crop_padding is {config.crop_padding} and data.flip is {config.flip}; expected 0 and False: "
            f"{spec.name} is text"
        )


def input_shape(spec: DatasetSpec, config: DataConfig) -> tuple[int, ...]:
    """Returns the shape of one input: `(H, W, C)` of an image, `(L,)` of a text."""
    return (config.max_tokens,) if spec.task == "text" else spec.shape
