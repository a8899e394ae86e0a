"""Residual networks (He et al., "Deep Residual Learning", CVPR 2016; Xie et al., "ResNeXt", CVPR 2017)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.config import ModelConfig
from mixup_jax.errors import require, require_choice
from mixup_jax.methods.mixing import Mix, unmixed
from mixup_jax.models import folded
from mixup_jax.models.layers import Layers, classify, dropout

STEMS = ("cifar", "imagenet")
RESNEXT_GROUPS = 32


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut.

    The shortcut is the identity if the shape does not change, else a 1x1 convolution.

    Attributes:
      stride: of the first convolution and the shortcut.
      layer: index of the block in its network, for the dropout masks.
      dropout: rate between the two convolutions.
      zero_init_residual: start as the shortcut alone, with a scale of 0 in the last normalisation.
    """

    make: Layers
    channels: int
    stride: int
    layer: int
    dropout: float = 0.0
    zero_init_residual: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns the block's output `[B, ceil(H / stride), ceil(W / stride), channels]`."""
        make = self.make
        y = make.conv(self.channels, 3, self.stride, name="conv_1")(x)
        y = nn.relu(make.norm(name="norm_1")(y))
        y = dropout(y, dropout_keys, rate=self.dropout, layer=self.layer)
        y = make.conv(self.channels, 3, name="conv_2")(y)
        y = make.norm(name="norm_2", zero_scale=self.zero_init_residual)(y)
        if x.shape != y.shape:
            x = make.conv(self.channels, 1, self.stride, name="conv_shortcut")(x)
            x = make.norm(name="norm_shortcut")(x)
        return nn.relu(x + y)


class BottleneckBlock(nn.Module):
    """A 1x1, a (grouped) 3x3 and a 1x1 convolution with batch normalisation around a shortcut.

    The 3x3 convolution has the stride (Goyal et al. 2017, section 5.1, and PyTorch, the paper's
    framework); in He et al. it was the first convolution.

    The attributes are those of `BasicBlock`, except that the output has 4 * `channels` channels and dropout comes
    before the last convolution.  The 3x3 convolution has `groups` groups and `inner` * `channels` channels.
    """

    make: Layers
    channels: int
    stride: int
    layer: int
    groups: int = 1
    inner: int = 1
    dropout: float = 0.0
    zero_init_residual: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns the block's output `[B, ceil(H / stride), ceil(W / stride), 4 * channels]`."""
        make, inner, outer = self.make, self.inner * self.channels, 4 * self.channels
        y = make.conv(inner, 1, name="conv_1")(x)
        y = nn.relu(make.norm(name="norm_1")(y))
        y = make.conv(inner, 3, self.stride, groups=self.groups, name="conv_2")(y)
        y = nn.relu(make.norm(name="norm_2")(y))
        y = dropout(y, dropout_keys, rate=self.dropout, layer=self.layer)
        y = folded.conv_norm(make, y, outer, names=("conv_3", "norm_3"), zero_scale=self.zero_init_residual)
        if x.shape != y.shape:
            x = x[:, :: self.stride, :: self.stride]
            x = folded.conv_norm(make, x, outer, names=("conv_shortcut", "norm_shortcut"))
        return folded.relu(x + y)


RESNEXT_BLOCK = partial(BottleneckBlock, groups=RESNEXT_GROUPS, inner=2)
"""32 groups of 4 channels each in the first stage, where a bottleneck without groups has 64 channels."""
RESNEXT_8_BLOCK = partial(BottleneckBlock, groups=RESNEXT_GROUPS, inner=4)
"""32 groups of 8 channels each in the first stage."""


class ResNet(nn.Module):
    """A residual network, ending in global average pooling and one linear layer.

    Attributes:
      stages: blocks of each stage; the width doubles and the resolution halves from stage to stage.
      width: channels of the first stage; for bottleneck blocks, a quarter of them.
      block: builds a block, as `BasicBlock` does.
      stem: "cifar" is a 3x3 convolution, so that the first stage has the full resolution; "imagenet" is
        a 7x7 convolution of stride 2 and a 3x3 max-pooling of stride 2.
      dropout: rate inside every block, before its last convolution.
      zero_init_residual: every block starts as its shortcut alone (Goyal et al. 2017, section 5.1).
      dtype: compute type; parameters, batch statistics and logits are float32.
      axis_name: the mapped axis over which batch statistics are averaged, if any.
      cpu_convolution: use the package's convolutions on a CPU where they are faster.
      padding: "same" or "torch" (`layers.pads`).
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
    cpu_convolution: bool = True
    padding: str = "same"

    @property
    def places(self) -> int:
        """The number of hidden places where `mix` is called: one after each stage."""
        return len(self.stages)

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits, float32 `[R, K]`, for the R rows that `mix` returns.

        Args:
          x: standardised images `[B, H, W, C]`.
          train: normalise by the batch and update the running statistics; else normalise by the running statistics.
          mix: called at place 0 on `x` and at place i after stage i; None mixes nothing.
          dropout_keys: typed PRNG keys `[R]`, one per row that `mix` returns; None is no dropout.
        """
        mix = mix or unmixed
        make = Layers(train, self.dtype, self.axis_name, self.cpu_convolution, self.padding)
        x = self._stem(make, mix(x, 0))
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                x = self.block(
                    make,
                    channels=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    layer=sum(self.stages[:stage]) + block,
                    dropout=self.dropout,
                    zero_init_residual=self.zero_init_residual,
                    name=f"stage_{stage + 1}_block_{block + 1}",
                )(x, dropout_keys)
            x = mix(x, stage + 1)
        return classify(x, self.classes)

    def _stem(self, make: Layers, x: jax.Array) -> jax.Array:
        if self.stem == "imagenet":
            return folded.conv_norm_pool(make, x, self.width, names=("stem", "norm_stem"))
        return nn.relu(make.norm(name="norm_stem")(make.conv(self.width, 3, name="stem")(x)))


def check(config: ModelConfig) -> None:
    """Raises InputError for options that a ResNet cannot have."""
    require_choice("model.stem", config.stem, STEMS)


def check_resnext(config: ModelConfig) -> None:
    """Raises InputError for options that a ResNeXt cannot have."""
    check(config)
    multiple = f"a multiple of {RESNEXT_GROUPS // 2} for {config.name}"
    require(2 * config.width % RESNEXT_GROUPS == 0, "model.width", config.width, multiple)
