"""The layers that every network is made of, with the package's constants."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.models.convolution import conv_general_dilated

# The defaults of the paper's framework: running statistics move by a tenth, epsilon 1e-5.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def conv(
    channels: int, size: int, stride: int = 1, *, dtype: Any, name: str, groups: int = 1, bias: bool = False
) -> nn.Module:
    """Returns a convolution of `size` x `size`, `[B, H, W, C]` to `[B, ceil(H / stride), ceil(W / stride), channels]`.

    Args:
      channels: of the output.
      size: of the kernel.
      stride: along both sides.
      dtype: compute type.
      name: of the layer's parameters.
      groups: each sees its share of the input's channels and makes its share of the output's.
      bias: add one; where batch normalisation follows it is without effect.
    """
    return nn.Conv(
        channels,
        (size, size),
        stride,
        padding="SAME",
        feature_group_count=groups,
        use_bias=bias,
        dtype=dtype,
        kernel_init=kaiming_normal,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


def batch_norm(*, train: bool, dtype: Any, axis_name: str | None, name: str, zero_scale: bool = False) -> nn.BatchNorm:
    """Returns a batch normalisation layer with the package's constants.

    Args:
      train: normalise by the batch and update the running statistics; else normalise by those.
      dtype: compute type.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
      name: of the layer's parameters.
      zero_scale: start from a scale of 0 instead of 1.
    """
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        dtype=dtype,
        axis_name=axis_name,
        scale_init=nn.initializers.zeros if zero_scale else nn.initializers.ones,
        name=name,
    )


def classify(x: jax.Array, classes: int) -> jax.Array:
    """Returns logits float32 `[B, K]`: the mean of `[B, H, W, C]` over H and W through one linear layer."""
    return nn.Dense(classes, name="head")(jnp.mean(x.astype(jnp.float32), axis=(1, 2)))
