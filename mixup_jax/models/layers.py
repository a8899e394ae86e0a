"""The layers of the networks, and their constants."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax import cpu_convolution

# The defaults of PyTorch, the paper's framework.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclass(frozen=True)
class Layers:
    """Makes a network's convolutions and normalisations with common settings.

    Attributes:
      train: normalise by the batch and update the running statistics; else normalise by the running statistics.
      dtype: compute type.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
      cpu_convolution: use the package's convolutions on a CPU where they are faster.
      padding: "same" or "torch" (`pads`).
    """

    train: bool
    dtype: Any = jnp.float32
    axis_name: str | None = None
    cpu_convolution: bool = True
    padding: str = "same"

    def conv(
        self, channels: int, size: int, stride: int = 1, *, name: str, groups: int = 1, bias: bool = False
    ) -> nn.Conv:
        """Returns a convolution, `[B, H, W, C]` to `[B, ceil(H / stride), ceil(W / stride), channels]`."""
        return nn.Conv(
            channels,
            (size, size),
            stride,
            padding=pads(size, self.padding),
            feature_group_count=groups,
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=kaiming_normal,
            conv_general_dilated=cpu_convolution.conv_general_dilated if self.cpu_convolution else None,
            name=name,
        )

    def norm(self, *, name: str, zero_scale: bool = False) -> nn.BatchNorm:
        """Returns a batch normalisation; `zero_scale` starts from a scale of 0 instead of 1."""
        return nn.BatchNorm(
            use_running_average=not self.train,
            momentum=BATCH_NORM_MOMENTUM,
            epsilon=BATCH_NORM_EPSILON,
            dtype=self.dtype,
            axis_name=self.axis_name,
            scale_init=nn.initializers.zeros if zero_scale else nn.initializers.ones,
            name=name,
        )


def pads(size: int, padding: str) -> str | list[tuple[int, int]]:
    """Returns the padding of a filter of odd size, as jax takes it.

    "torch" pads all four sides by (size - 1) / 2.  "same" is XLA's: it gives as many pixels, and where a stride of 2
    on an even side leaves an odd number of them, the last side has one more.
    """
    return "SAME" if padding == "same" else [((size - 1) // 2, (size - 1) // 2)] * 2


def classify(x: jax.Array, classes: int) -> jax.Array:
    """Returns logits float32 `[B, K]`: the mean of `[B, H, W, C]` over H and W through one linear layer."""
    return nn.Dense(classes, name="head")(jnp.mean(x.astype(jnp.float32), axis=(1, 2)))


def dropout(x: jax.Array, keys: jax.Array | None, *, rate: float, layer: int) -> jax.Array:
    """Returns `x` with every element zeroed with probability `rate` and the others divided by 1 - rate.

    The expectation over keys is `x` (Srivastava et al., JMLR 2014, in the inverted form, which needs no change at
    test time).  A row's mask depends only on its key, the layer and the shape of a row, so that a run is the same on
    any number of devices.

    The keys are `[B]`, one per row; without keys or at rate 0 nothing is dropped.  The index of the layer is folded
    into the keys, so that layers draw independently.
    """
    if keys is None or rate == 0:
        return x
    if keys.shape != x.shape[:1]:
        raise ValueError(f"dropout got keys of shape {keys.shape} for rows of shape {x.shape}; expected {x.shape[:1]}")

    def keep(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, x.shape[1:])

    return jnp.where(jax.vmap(keep)(keys), x / (1 - rate), jnp.zeros((), x.dtype))


@jax.custom_vjp
def halve(x: jax.Array) -> jax.Array:
    """Returns the maxima `[B, ceil(H / 2), ceil(W / 2), C]` of 2x2 windows that do not overlap.

    The last windows of an odd side are cut off by the edge.  The gradient goes to the first of equal maxima, row by
    row, as XLA's does.  On a CPU it is our own, since XLA's takes nine times as long there (128 maps of 32x32x64).
    Differentiable in reverse mode only.
    """
    return _pooled(x)


def _pooled(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (2, 2), (2, 2), padding="SAME")


def _halve_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    def by_xla(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.vjp(_pooled, x)[1](gradient)[0]

    return (jax.lax.platform_dependent(x, gradient, cpu=_to_first_maximum, default=by_xla),)


halve.defvjp(lambda x: (_pooled(x), x), _halve_backward)


def _to_first_maximum(x: jax.Array, gradient: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    edges = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    padded = jnp.pad(x, edges, constant_values=-jnp.inf)
    corners = [padded[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    largest = reduce(jnp.maximum, corners)
    chosen = jnp.where(corners[0] == largest, 0, jnp.where(corners[1] == largest, 1, 2 + (corners[2] != largest)))
    place = jnp.arange(4).reshape(1, 1, 2, 1, 2, 1)
    spread = jnp.where(chosen[:, :, None, :, None] == place, gradient[:, :, None, :, None], 0)
    return spread.reshape(batch, padded.shape[1], padded.shape[2], channels)[:, :height, :width]
