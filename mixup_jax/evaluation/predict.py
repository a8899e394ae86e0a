"""From variables and images to logits: every example exactly once, on any number of devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.data.stream import CentreCrops

Predict = Callable[[Mapping[str, Any], npt.NDArray[Any] | CentreCrops], npt.NDArray[np.float32]]
Network = Callable[[Mapping[str, Any], jax.Array], jax.Array]
"""Maps variables and standardised inputs `[B, ...]` to logits `[B, K]`."""
Compute = Callable[[Mapping[str, Any], jax.Array, jax.Array], jax.Array]
"""Maps variables, images `[B, H, W, C]` in pixel units and the numbers of the examples `[B]` to logits `[B, K]`."""


def network_of(model: nn.Module) -> Network:
    """Returns the network as prediction uses it: normalised by its running statistics."""
    return lambda variables, inputs: model.apply(variables, inputs, train=False)


def make_predict(
    network: Network, standardise: Callable[[jax.Array], jax.Array], mesh: Mesh, *, batch_size: int
) -> Predict:
    """Returns `predict(variables, images) -> logits`, compiled once for all data sets.

    Images are in pixel units `[N, H, W, C]`, in memory or streamed, logits float32 `[N, K]` on the host.
    The last batch is filled up with black images whose logits are discarded, so N need not be a multiple of anything.

    Args:
      network: such as `network_of(model)`.
      standardise: maps pixels to the network's inputs.
      mesh: a one-dimensional mesh; each device gets an equal share of a batch.
      batch_size: examples a step, rounded up to a multiple of the devices.
    """
    return _by_batches(predict_batch(network, standardise), mesh, batch_size)


def predict_batch(network: Network, standardise: Callable[[jax.Array], jax.Array]) -> Compute:
    """Returns the computation that `make_predict` compiles."""
    return lambda variables, images, _: network(variables, standardise(images))


def make_mc_dropout(
    model: nn.Module,
    standardise: Callable[[jax.Array], jax.Array],
    mesh: Mesh,
    *,
    batch_size: int,
    passes: int,
    key: jax.Array,
) -> Predict:
    """Returns `predict(variables, images) -> log probabilities` by Monte Carlo dropout.

    log(1/T sum_t softmax(f(x, mask_t))): the mean over T passes with dropout active and batch normalisation on
    its running statistics (Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016, equation 6).
    The mask of example i in pass t is a function of `key`, t and i alone, neither of the batch nor of the devices.

    Args:
      model: the network; without dropout, every pass is the plain prediction.
      standardise: as for `make_predict`.
      mesh: as for `make_predict`.
      batch_size: as for `make_predict`.
      passes: T >= 1.
      key: of the masks.
    """

    def log_mean(variables: Mapping[str, Any], images: jax.Array, rows: jax.Array) -> jax.Array:
        inputs = standardise(images)

        def one_pass(number: jax.Array) -> jax.Array:
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, number)))(rows)
            return jax.nn.log_softmax(model.apply(variables, inputs, train=False, dropout_keys=keys))

        return jax.nn.logsumexp(jax.lax.map(one_pass, jnp.arange(passes)), axis=0) - math.log(passes)

    return _by_batches(log_mean, mesh, batch_size)


def shared_batch(batch_size: int, devices: int) -> int:
    """Returns the batch size rounded up to a multiple of the devices."""
    return -(-batch_size // devices) * devices


def _by_batches(compute: Compute, mesh: Mesh, batch_size: int) -> Predict:
    """Compiles `compute` and runs it over all examples."""
    batch_size = shared_batch(batch_size, mesh.devices.size)
    sharded = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    compiled = jax.jit(compute)

    def predict(variables: Mapping[str, Any], images: npt.NDArray[Any] | CentreCrops) -> npt.NDArray[np.float32]:
        pending = []
        for number, some in enumerate(_batches(images, batch_size)):
            rows = number * batch_size + np.arange(batch_size, dtype=np.int32)
            pending.append(compiled(variables, *jax.device_put((_filled(some, batch_size), rows), sharded)))
        logits = np.concatenate([np.asarray(part, np.float32) for part in pending])[: len(images)]
        if len(logits) != len(images):
            raise AssertionError(f"{len(images)} examples gave {len(logits)} predictions")
        return logits

    return predict


def _batches(images: npt.NDArray[Any] | CentreCrops, batch_size: int) -> Iterator[npt.NDArray[Any]]:
    if isinstance(images, CentreCrops):
        return images.batches(batch_size)
    return (images[start : start + batch_size] for start in range(0, len(images), batch_size))


def _filled(images: npt.NDArray[Any], batch_size: int) -> npt.NDArray[Any]:
    missing = batch_size - len(images)
    return np.pad(images, ((0, missing), *((0, 0),) * (images.ndim - 1))) if missing else images
