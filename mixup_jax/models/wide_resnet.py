"""Wide residual networks (Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.methods.mixing import Mix, unmixed
from mixup_jax.models.layers import Layers, classify, dropout

STEM_CHANNELS = 16


class PreactivationBlock(nn.Module):
    """Two 3x3 convolutions, each after batch normalisation and ReLU, around a shortcut.

    The shortcut is the identity if the shape does not change, else a 1x1 convolution of the normalised input.

    The attributes are those of `BasicBlock`; dropout follows the second ReLU (section 2.4 of the paper).
    """

    make: Layers
    channels: int
    stride: int
    layer: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, dropout_keys: jax.Array | None = None) -> jax.Array:
        """Returns the block's output `[B, ceil(H / stride), ceil(W / stride), channels]`."""
        make = self.make
        active = nn.relu(make.norm(name="norm_1")(x))
        y = make.conv(self.channels, 3, self.stride, name="conv_1")(active)
        y = nn.relu(make.norm(name="norm_2")(y))
        y = dropout(y, dropout_keys, rate=self.dropout, layer=self.layer)
        y = make.conv(self.channels, 3, name="conv_2")(y)
        if x.shape != y.shape:
            x = make.conv(self.channels, 1, self.stride, name="conv_shortcut")(active)
        return x + y


class WideResNet(nn.Module):
    """A wide residual network WRN-n-k: three stages of (n - 4) / 6 blocks, 16 k channels in the first.

    Attributes:
      width: channels of the first stage, 16 k; they double and the resolution halves from stage to stage.
      dropout: rate inside every block, between its convolutions.
      dtype, axis_name, cpu_convolution: those of `ResNet`.
    """

    classes: int
    blocks: int
    width: int
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    cpu_convolution: bool = True

    @property
    def places(self) -> int:
        """The number of hidden places where `mix` is called: one after each stage."""
        return 3

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits, float32 `[R, K]`; the arguments are those of `ResNet`."""
        mix = mix or unmixed
        make = Layers(train, self.dtype, self.axis_name, self.cpu_convolution)
        x = make.conv(STEM_CHANNELS, 3, name="stem")(mix(x, 0))
        for stage in range(3):
            for block in range(self.blocks):
                x = PreactivationBlock(
                    make,
                    channels=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    layer=stage * self.blocks + block,
                    dropout=self.dropout,
                    name=f"stage_{stage + 1}_block_{block + 1}",
                )(x, dropout_keys)
            x = mix(x, stage + 1)
        return classify(nn.relu(make.norm(name="norm_last")(x)), self.classes)
