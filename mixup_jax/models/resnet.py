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

from mixup_jax.models.dropout import dropout
from mixup_jax.models.layers import Mix, batch_norm, conv, unmixed


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut.

    The shortcut is the identity where the shape stays, else a 1x1 convolution.

    Attributes:
      channels: of the output.
      stride: of the first convolution and the shortcut.
      dropout: rate between the two convolutions.
      layer: index of the block, for the dropout masks.
      dtype: compute type.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
    """

    channels: int
    stride: int
    dropout: float = 0.0
    layer: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns the block's output `[B, H / stride, W / stride, channels]`."""
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv_1")(x)
        y = nn.relu(norm(name="norm_1")(y))
        y = dropout(y, dropout_keys, rate=self.dropout, layer=self.layer)
        y = conv(self.channels, 3, dtype=self.dtype, name="conv_2")(y)
        y = norm(name="norm_2")(y)
        if x.shape != y.shape:
            x = conv(self.channels, 1, self.stride, dtype=self.dtype, name="conv_shortcut")(x)
            x = norm(name="norm_shortcut")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A residual network, ending in global average pooling and one linear layer.

    Attributes:
      classes: K.
      stages: blocks of each stage; the width doubles and the resolution halves from stage to stage.
      width: channels of the first stage.
      dropout: rate inside every block, before its last convolution.
      dtype: compute type; parameters, batch statistics and logits are float32.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
    """

    classes: int
    stages: tuple[int, ...]
    width: int
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def places(self) -> int:
        """Hidden places where `mix` is called: after each stage."""
        return len(self.stages)

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits, float32 `[B, K]`; B is that of what `mix` returns.

        Args:
          x: standardised images `[B, H, W, C]`.
          train: normalise by the batch and update the running statistics; else normalise by those.
          mix: called at place 0 on `x` and at place i after stage i; None mixes nothing.
          dropout_keys: typed PRNG keys `[B]`, one a row of what `mix` returns; None is no dropout.
        """
        mix = mix or unmixed
        x = conv(self.width, 3, dtype=self.dtype, name="stem")(mix(x, 0))
        x = nn.relu(batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name="norm_stem")(x))
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                x = BasicBlock(
                    self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    dropout=self.dropout,
                    layer=sum(self.stages[:stage]) + block,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"stage_{stage + 1}_block_{block + 1}",
                )(x, train=train, dropout_keys=dropout_keys)
            x = mix(x, stage + 1)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        return nn.Dense(self.classes, name="head")(x)
