"""What enters a network, by the kind of data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
    """Raises InputError where a set is to be augmented in a way that is not for its kind."""
    if spec.task == "text" and (config.crop_padding or config.flip):
        raise InputError(
            f"data.crop_padding is {config.crop_padding} and data.flip is {config.flip}; expected 0 and False: "
            f"{spec.name} is text"
        )
    if spec.streams and (config.crop != "random_resized" or config.crop_padding or config.rotation):
        raise InputError(
            f"data.crop is {config.crop!r}, data.crop_padding {config.crop_padding} and data.rotation "
            f"{config.rotation}; expected 'random_resized', 0 and 0: {spec.name} is streamed"
        )
    if not spec.streams and (config.crop != "pad" or config.image_size):
        raise InputError(
            f"data.crop is {config.crop!r} and data.image_size {config.image_size}; expected 'pad' and 0: "
            f"{spec.name} is held in memory as it is"
        )


def input_shape(spec: DatasetSpec, config: DataConfig) -> tuple[int, ...]:
    """Returns the shape of one input: `(H, W, C)` of an image, `(L,)` of a text."""
    return (config.max_tokens,) if spec.task == "text" else sized(spec, config).shape


def sized(spec: DatasetSpec, config: DataConfig) -> DatasetSpec:
    """Returns the catalogue's entry with the size of images that the config asks for."""
    size = config.image_size
    return replace(spec, shape=(size, size, *spec.shape[2:])) if size else spec
