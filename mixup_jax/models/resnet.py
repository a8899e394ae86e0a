"""Residual networks for small images (He et al., "Deep Residual Learning", CVPR 2016).

The stem is the one usual for 28x28 and 32x32 images: a 3x3 convolution of stride 1 and no pooling,
so the first stage sees the full resolution.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# The defaults of the paper's framework: running statistics move by a tenth, epsilon 1e-5.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

kaiming_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut.

    The shortcut is the identity where the shape stays, else a 1x1 convolution.

    Attributes:
      channels: of the output.
      stride: of the first convolution and the shortcut.
      dtype: compute type.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
    """

    channels: int
    stride: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns the block's output `[B, H / stride, W / stride, channels]`."""
        conv = partial(nn.Conv, use_bias=False, padding="SAME", dtype=self.dtype, kernel_init=kaiming_normal)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = nn.relu(norm(name="norm_1")(conv(self.channels, (3, 3), self.stride, name="conv_1")(x)))
        y = norm(name="norm_2")(conv(self.channels, (3, 3), name="conv_2")(y))
        if x.shape != y.shape:
            x = norm(name="norm_shortcut")(conv(self.channels, (1, 1), self.stride, name="conv_shortcut")(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A residual network of basic blocks, ending in global average pooling and one linear layer.

    Attributes:
      classes: K.
      stages: blocks of each stage; the width doubles and the resolution halves from stage to stage.
      width: channels of the first stage.
      dtype: compute type; parameters, batch statistics and logits are float32.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
    """

    classes: int
    stages: tuple[int, ...]
    width: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns logits, float32 `[B, K]`.

        Args:
          x: standardised images `[B, H, W, C]`.
          train: normalise by the batch and update the running statistics; else normalise by those.
        """
        x = nn.Conv(self.width, (3, 3), use_bias=False, dtype=self.dtype, kernel_init=kaiming_normal, name="stem")(x)
        norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name="norm_stem")
        x = nn.relu(norm(x))
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage_{stage + 1}_block_{block + 1}"
                channels = self.width * 2**stage
                x = BasicBlock(channels, stride, self.dtype, self.axis_name, name=name)(x, train=train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        return nn.Dense(self.classes, name="head")(x)


def batch_norm(*, train: bool, dtype: Any, axis_name: str | None, name: str) -> nn.BatchNorm:
    """Returns a batch normalisation layer with the package's constants."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        dtype=dtype,
        axis_name=axis_name,
        name=name,
    )
