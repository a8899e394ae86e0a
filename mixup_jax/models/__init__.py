"""The networks, by name."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from mixup_jax.errors import unknown_name
from mixup_jax.models.resnet import ResNet

MODELS = {
    "resnet8": partial(ResNet, stages=(1, 1, 1)),
    "resnet18": partial(ResNet, stages=(2, 2, 2, 2)),
}


def create_model(
    name: str,
    *,
    classes: int,
    width: int,
    dropout: float = 0.0,
    dtype: str = "float32",
    axis_name: str | None = None,
) -> nn.Module:
    """Returns a network that maps standardised images `[B, H, W, C]` to logits float32 `[B, K]`.

    Args:
      name: a key of `MODELS`.
      classes: K.
      width: channels of the first stage; 64 in the published networks.
      dropout: rate in [0, 1) of the dropout layers, which are active where `dropout_keys` are given.
      dtype: compute type, "float32" or "bfloat16".
      axis_name: the mapped axis over which batch statistics are averaged, under pmap.

    Raises:
      InputError: there is no network of that name; the message lists those there are.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name](classes=classes, width=width, dropout=dropout, dtype=jnp.dtype(dtype), axis_name=axis_name)
