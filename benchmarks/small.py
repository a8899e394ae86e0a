"""A network and images so small that what is measured is not the network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mixup_jax.data.cache import arrays_folder, write_cache
from mixup_jax.data.sets import ExampleSet
from mixup_jax.models import NETWORKS, Network
from mixup_jax.models.layers import dropout

NAME = "small"


class Small(nn.Module):
    """Averages of 7 x 7 pixels, a linear layer with batch normalisation, and another: what a ResNet has, but quick."""

    classes: int
    width: int
    dtype: Any
    dropout: float = 0.0
    axis_name: str | None = None
    places: int = 0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        mix: Callable[[jax.Array, int], jax.Array] | None = None,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits."""
        x = x if mix is None else mix(x, 0)
        x = nn.avg_pool(x, (7, 7), strides=(7, 7))
        x = nn.Dense(self.width)(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x)
        return nn.Dense(self.classes)(dropout(nn.relu(x), dropout_keys, rate=self.dropout, layer=0))


def add_model() -> None:
    """Adds the network to the package's, in this process."""
    NETWORKS[NAME] = Network(Small)


def make_data(data_dir: Path, *, train: int = 200, test: int = 60) -> None:
    """Writes made-up images under the names fashion_mnist and mnist."""

    def stripes(examples: int, seed: int) -> ExampleSet:
        generator = np.random.default_rng(seed)
        labels = np.arange(examples, dtype=np.int32) % 10
        bright = 100 + 100 * np.sin(np.arange(28)[None, :, None, None] * (labels[:, None, None, None] + 1) * 0.3)
        noisy = np.clip(bright + generator.normal(0, 30, (examples, 28, 28, 1)), 0, 255)
        return ExampleSet(noisy.astype(np.uint8), labels, "made-up stripes")

    write_cache(arrays_folder(data_dir, "fashion_mnist"), {"train": stripes(train, 0), "test": stripes(test, 1)})
    write_cache(arrays_folder(data_dir, "mnist"), {"test": stripes(40, 2)})
