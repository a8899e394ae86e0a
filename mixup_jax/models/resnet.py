"""Residual networks (He et al., "Deep Residual Learning", CVPR 2016; Xie et al., "ResNeXt", CVPR 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.methods.mixing import Mix, unmixed
from mixup_jax.models import folded
from mixup_jax.models.dropout import dropout
from mixup_jax.models.layers import batch_norm, classify, conv


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut.

    The shortcut is the identity where the shape stays, else a 1x1 convolution.

    Attributes:
      channels: of the output.
      stride: of the first convolution and the shortcut.
      layer: index of the block in its network, for the dropout masks.
      dropout: rate between the two convolutions.
      zero_init_residual: start as the shortcut alone, with a scale of 0 in the last normalisation.
      dtype: compute type.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
    """

    channels: int
    stride: int
    layer: int
    dropout: float = 0.0
    zero_init_residual: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns the block's output `[B, ceil(H / stride), ceil(W / stride), channels]`."""
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv_1")(x)
        y = nn.relu(norm(name="norm_1")(y))
        y = dropout(y, dropout_keys, rate=self.dropout, layer=self.layer)
        y = conv(self.channels, 3, dtype=self.dtype, name="conv_2")(y)
        y = norm(name="norm_2", zero_scale=self.zero_init_residual)(y)
        if x.shape != y.shape:
            x = conv(self.channels, 1, self.stride, dtype=self.dtype, name="conv_shortcut")(x)
            x = norm(name="norm_shortcut")(x)
        return nn.relu(x + y)


class BottleneckBlock(nn.Module):
    """A 1x1, a (grouped) 3x3 and a 1x1 convolution with batch normalisation around a shortcut.

    The stride is that of the 3x3 convolution (Goyal et al. 2017, section 5.1, and the paper's
    framework), where He et al. had it in the first.

    Attributes:
      channels: a quarter of those of the output.
      stride: of the 3x3 convolution and the shortcut.
      layer: index of the block in its network, for the dropout masks.
      groups: of the 3x3 convolution.
      inner: channels of the 3x3 convolution, as a multiple of `channels`.
      dropout: rate before the last convolution.
      zero_init_residual: start as the shortcut alone, with a scale of 0 in the last normalisation.
      dtype: compute type.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
    """

    channels: int
    stride: int
    layer: int
    groups: int = 1
    inner: int = 1
    dropout: float = 0.0
    zero_init_residual: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns the block's output `[B, ceil(H / stride), ceil(W / stride), 4 * channels]`."""
        inner, outer = self.inner * self.channels, 4 * self.channels
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = conv(inner, 1, dtype=self.dtype, name="conv_1")(x)
        y = nn.relu(norm(name="norm_1")(y))
        y = conv(inner, 3, self.stride, groups=self.groups, dtype=self.dtype, name="conv_2")(y)
        y = nn.relu(norm(name="norm_2")(y))
        y = dropout(y, dropout_keys, rate=self.dropout, layer=self.layer)
        wider = partial(folded.conv_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = wider(y, outer, names=("conv_3", "norm_3"), zero_scale=self.zero_init_residual)
        if x.shape != y.shape:
            x = wider(x[:, :: self.stride, :: self.stride], outer, names=("conv_shortcut", "norm_shortcut"))
        return folded.relu(x + y)


class ResNet(nn.Module):
    """A residual network, ending in global average pooling and one linear layer.

    Attributes:
      classes: K.
      stages: blocks of each stage; the width doubles and the resolution halves from stage to stage.
      width: channels of the first stage; of a bottleneck, a quarter of them.
      block: builds a block, as `BasicBlock` does.
      stem: "cifar", a 3x3 convolution, so that the first stage sees the full resolution; or "imagenet",
        a 7x7 convolution of stride 2 and a 3x3 max-pooling of stride 2.
      dropout: rate inside every block, before its last convolution.
      zero_init_residual: every block starts as its shortcut alone (Goyal et al. 2017, section 5.1).
      dtype: compute type; parameters, batch statistics and logits are float32.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
    """

    classes: int
    stages: tuple[int, ...]
    width: int
    block: Any = BasicBlock
    stem: str = "cifar"
    dropout: float = 0.0
    zero_init_residual: bool = False
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
        x = self._stem(mix(x, 0), train)
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                x = self.block(
                    channels=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    layer=sum(self.stages[:stage]) + block,
                    dropout=self.dropout,
                    zero_init_residual=self.zero_init_residual,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"stage_{stage + 1}_block_{block + 1}",
                )(x, train=train, dropout_keys=dropout_keys)
            x = mix(x, stage + 1)
        return classify(x, self.classes)

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        settings = {"train": train, "dtype": self.dtype, "axis_name": self.axis_name}
        if self.stem == "imagenet":
            return folded.conv_norm_pool(x, self.width, names=("stem", "norm_stem"), **settings)
        x = conv(self.width, 3, dtype=self.dtype, name="stem")(x)
        return nn.relu(batch_norm(name="norm_stem", **settings)(x))
