"""The sentence network of Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.models.dropout import dropout
from mixup_jax.models.layers import Mix, kaiming_normal, unmixed

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
        filled = jnp.any(x != 0, axis=-1, keepdims=True).astype(jnp.float32)
        features = jnp.concatenate([self._strongest(x, filled, size) for size in self.filter_widths], axis=-1)
        features = dropout(features, dropout_keys, rate=self.dropout, layer=0)
        return nn.Dense(self.classes, name="head")(features)

    def _strongest(self, x: jax.Array, filled: jax.Array, size: int) -> jax.Array:
        """Returns each map's largest activation over time, float32 `[B, width]`; 0 for an empty sentence."""
        over_both_ends = [(size - 1, size - 1)]
        convolution = nn.Conv(
            self.width,
            (size,),
            padding=over_both_ends,
            dtype=self.dtype,
            kernel_init=kaiming_normal,
            name=f"conv_{size}",
        )
        activations = nn.relu(convolution(x)).astype(jnp.float32)
        windows = nn.max_pool(filled, (size,), padding=over_both_ends)
        # An activation is never negative, so a zero never wins where there is a window at all.
        return jnp.max(activations * windows, axis=1)


def initial_table(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns vectors uniform in [-0.25, 0.25], Kim's for words that have none, `[V, E]`; row 0 is zero."""
    return jax.random.uniform(key, shape, dtype, -0.25, 0.25).at[PADDING].set(0)
