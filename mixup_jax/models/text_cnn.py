"""The sentence network of Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.config import ModelConfig
from mixup_jax.errors import require
from mixup_jax.methods.mixing import Mix, unmixed
from mixup_jax.models.layers import dropout, kaiming_normal

PADDING = 0
"""The token that fills up a sentence."""


class TextCNN(nn.Module):
    """Embedding, filters of several widths over time, ReLU, maximum over time, dropout, one linear layer.

    The table is the parameter `["embedding"]["embedding"]`, float32 `[V, E]`, and is trained; replace it after
    initialisation to start from word vectors.  The row of padding has no effect and no gradient.

    A filter sees every window that overlaps the sentence, those that hang over either end included, as
    in Kim's code.  Windows of nothing but zeros say nothing and are left out of the maximum, so the logits do not
    depend on how far a sentence is padded.  What is padding is read off the embeddings after `mix`: a
    mixture of two sentences is as long as the longer of those that have a share in it.

    Attributes:
      classes: K.
      vocabulary: V, padding included.
      embedding_size: E.
      width: feature maps of each filter width.
      filter_widths: in tokens.
      dropout: rate before the linear layer.
      dtype: compute type; parameters and logits are float32.
    """

    classes: int
    vocabulary: int
    embedding_size: int
    width: int
    filter_widths: tuple[int, ...]
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @property
    def places(self) -> int:
        """There is no hidden place where `mix` is called; text is mixed at place 0, on the embeddings."""
        return 0

    @nn.compact
    def __call__(
        self, tokens: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """Returns logits, float32 `[B, K]`; B is that of what `mix` returns.

        Args:
          tokens: int32 `[B, L]` in [0, V), L >= 1; 0 is padding.  A token outside gives logits NaN.
          train: without effect, since nothing is normalised by the batch.
          mix: called once, at place 0, on the embeddings float32 `[B, L, E]`; None mixes nothing.
          dropout_keys: typed PRNG keys `[B]`, one a row of what `mix` returns; None is no dropout.
        """
        table = nn.Embed(self.vocabulary, self.embedding_size, embedding_init=initial_table, name="embedding")
        x = table(tokens) * (tokens != PADDING)[..., None]
        x = (mix or unmixed)(x, 0)
        strongest = [
            StrongestMatch(self.width, size, self.dtype, name=f"conv_{size}")(x) for size in self.filter_widths
        ]
        features = dropout(jnp.concatenate(strongest, axis=-1), dropout_keys, rate=self.dropout, layer=0)
        return nn.Dense(self.classes, name="head")(features)


class StrongestMatch(nn.Module):
    """A convolution over time, ReLU, and the maximum over time.

    The convolution is a product of windows and kernel: with its gradient 25 times as fast as XLA's own on a CPU
    (50 sentences of 56 tokens, E = 50, 100 maps).

    Attributes:
      maps: of the output.
      size: of a window, in tokens.
      dtype: compute type.
    """

    maps: int
    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns each map's largest activation, float32 `[B, maps]`, of `[B, L, E]`; 0 where all is zero."""
        length, embedding = x.shape[1] + self.size - 1, x.shape[2]
        kernel = self.param("kernel", kaiming_normal, (self.size, embedding, self.maps)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.maps,)).astype(self.dtype)
        padded = jnp.pad(x, ((0, 0), (self.size - 1, self.size - 1), (0, 0)))
        windows = jnp.concatenate([padded[:, start : start + length] for start in range(self.size)], axis=-1)
        activations = nn.relu(windows.astype(self.dtype) @ kernel.reshape(-1, self.maps) + bias)
        filled = jnp.any(windows != 0, axis=-1, keepdims=True)
        # An activation is never negative, so a zero never wins where there is a window at all.
        return jnp.max(jnp.where(filled, activations, 0), axis=1).astype(jnp.float32)


def initial_table(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns vectors uniform in [-0.25, 0.25], Kim's for words that have none, `[V, E]`; row 0 is zero."""
    return jax.random.uniform(key, shape, dtype, -0.25, 0.25).at[PADDING].set(0)


def check(config: ModelConfig) -> None:
    """Raises InputError for options that a sentence network cannot have."""
    widths = config.filter_widths
    different = bool(widths) and min(widths) >= 1 and len(set(widths)) == len(widths)
    require(different, "model.filter_widths", widths, "different positive numbers of tokens, such as (3, 4, 5)")
