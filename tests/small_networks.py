"""Networks of a few parameters that keep to the contract of `mixup_jax.models`, for tests of the step."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.config import ModelConfig
from mixup_jax.methods.mixing import Mix, unmixed
from mixup_jax.models import model_of
from mixup_jax.models.layers import BATCH_NORM_MOMENTUM, dropout

CLASSES = 5


def create_model(name: str, *, classes: int, width: int, **options: Any) -> nn.Module:
    """Returns a network of the table; options are keys of `ModelConfig` and arguments of `model_of`."""
    keys = {each.name for each in dataclasses.fields(ModelConfig)} & options.keys()
    config = ModelConfig(name=name, width=width, **{key: options.pop(key) for key in keys})
    return model_of(config, classes=classes, **options)


class Linear(nn.Module):
    """The smallest network with batch statistics; any image, no hidden place."""

    classes: int = CLASSES
    places = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: Any = None) -> jax.Array:
        x = (mix or unmixed)(x, 0)
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.classes)(nn.BatchNorm(use_running_average=not train)(x))


class Convolution(nn.Module):
    """A convolution, batch normalisation (or none) and a linear layer, in float64 where that is enabled."""

    axis_name: str | None = None
    rate: float = 0.0
    normalise: bool = True
    places = 2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: Any = None) -> jax.Array:
        mix, dtype = mix or unmixed, jnp.result_type(float)
        x = mix(nn.Conv(3, (3, 3), param_dtype=dtype)(mix(x, 0)), 1)
        if self.normalise:
            x = nn.BatchNorm(not train, momentum=BATCH_NORM_MOMENTUM, axis_name=self.axis_name, param_dtype=dtype)(x)
        x = mix(dropout(nn.relu(x), dropout_keys, rate=self.rate, layer=0), 2)
        return nn.Dense(CLASSES, param_dtype=dtype)(x.mean(axis=(1, 2)))


class Words(nn.Module):
    """The mean of embedded words and a linear layer: text, mixed after the embedding."""

    rate: float = 0.0
    places = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: Any = None) -> jax.Array:
        x = (mix or unmixed)(nn.Embed(20, 4)(x), 0)
        return nn.Dense(CLASSES)(dropout(jnp.tanh(x).mean(axis=1), dropout_keys, rate=self.rate, layer=0))
