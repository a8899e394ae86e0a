"""From variables and images to logits: every example exactly once, on any number of devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Predict = Callable[[Mapping[str, Any], npt.NDArray[Any]], npt.NDArray[np.float32]]
Network = Callable[[Mapping[str, Any], jax.Array], jax.Array]
"""Maps variables and standardised inputs `[B, ...]` to logits `[B, K]`."""


def network_of(model: nn.Module) -> Network:
    """Returns the network as prediction uses it: normalised by its running statistics."""
    return lambda variables, inputs: model.apply(variables, inputs, train=False)


def make_predict(
    network: Network, standardise: Callable[[jax.Array], jax.Array], mesh: Mesh, *, batch_size: int
) -> Predict:
    """Returns `predict(variables, images) -> logits`, compiled once for all data sets.

    Images are in pixel units `[N, H, W, C]`, logits float32 `[N, K]` on the host.  The last batch is
    filled up with black images whose logits are discarded, so N need not be a multiple of anything.

    Args:
      network: such as `network_of(model)`.
      standardise: maps pixels to the network's inputs.
      mesh: a one-dimensional mesh; each device gets an equal share of a batch.
      batch_size: examples a step, rounded up to a multiple of the devices.
    """
    devices = mesh.devices.size
    batch_size = -(-batch_size // devices) * devices
    sharded = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))

    @jax.jit
    def logits_of(variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        return network(variables, standardise(images))

    def predict(variables: Mapping[str, Any], images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        pending = []
        for start in range(0, len(images), batch_size):
            batch = _filled(images[start : start + batch_size], batch_size)
            pending.append(logits_of(variables, jax.device_put(batch, sharded)))
        logits = np.concatenate([np.asarray(part, np.float32) for part in pending])[: len(images)]
        if len(logits) != len(images):
            raise AssertionError(f"{len(images)} examples gave {len(logits)} predictions")
        return logits

    return predict


def _filled(images: npt.NDArray[Any], batch_size: int) -> npt.NDArray[Any]:
    missing = batch_size - len(images)
    return np.pad(images, ((0, missing), *((0, 0),) * (images.ndim - 1))) if missing else images
