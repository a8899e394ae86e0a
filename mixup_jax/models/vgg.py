"""VGG networks (Simonyan and Zisserman, ICLR 2015) with batch normalisation and a single linear layer.

The form is that of the lead author's code for another paper (Thulasidasan et al., "Combating Label Noise in
Deep Learning Using Abstention", ICML 2019): convolutions with bias, global average pooling, the original's
4096-wide layers only on request, and optional dropout after every activation.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.config import WIDEST, ModelConfig
from mixup_jax.errors import require
from mixup_jax.methods.mixing import Mix, unmixed
from mixup_jax.models.layers import Layers, classify, dropout, halve

HEAD_DROPOUT = 0.5
"""The dropout rate of the hidden layers, as in the original."""


class VGG(nn.Module):
    """Blocks of 3x3 convolutions with batch normalisation and ReLU; each block ends in max-pooling.

    The channels double from block to block, up to 8 times those of the first.  Pooling rounds the half of an
    odd side up, so images may have any size.

    Attributes:
      blocks: convolutions of each block.
      width: channels of the first block.
      dropout: rate after every convolution's ReLU.
      hidden: width of two layers with ReLU and `HEAD_DROPOUT` before the last layer; 0 adds none.
      dtype, axis_name, cpu_convolution: those of `ResNet`.
    """

    classes: int
    blocks: tuple[int, ...]
    width: int
    dropout: float = 0.0
    hidden: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    cpu_convolution: bool = True

    @property
    def places(self) -> int:
        """The number of hidden places where `mix` is called: one after each block."""
        return len(self.blocks)

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits, float32 `[R, K]`; the arguments are those of `ResNet`."""
        mix = mix or unmixed
        make = Layers(train, self.dtype, self.axis_name, self.cpu_convolution)
        x = mix(x, 0)
        for block, convolutions in enumerate(self.blocks):
            channels = self.width * min(2**block, 8)
            for index in range(convolutions):
                x = make.conv(channels, 3, bias=True, name=f"block_{block + 1}_conv_{index + 1}")(x)
                x = nn.relu(make.norm(name=f"block_{block + 1}_norm_{index + 1}")(x))
                x = dropout(x, dropout_keys, rate=self.dropout, layer=sum(self.blocks[:block]) + index)
            x = mix(halve(x), block + 1)
        if not self.hidden:
            return classify(x, self.classes)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        for index in range(2):
            x = nn.relu(nn.Dense(self.hidden, name=f"hidden_{index + 1}")(x))
            x = dropout(x, dropout_keys, rate=HEAD_DROPOUT, layer=sum(self.blocks) + index)
        return nn.Dense(self.classes, name="head")(x)


def check(config: ModelConfig) -> None:
    """Raises InputError for options that a VGG network cannot have."""
    expected = f"a width from 1 to {WIDEST}, or 0 for none"
    require(0 <= config.hidden <= WIDEST, "model.hidden", config.hidden, expected)
