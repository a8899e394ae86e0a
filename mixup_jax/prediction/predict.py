"""From variables and images to logits: every example exactly once, on any number of devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mixup_jax.data.stream import CentreCrops
from mixup_jax.devices.mesh import by_rows, process_rows
from mixup_jax.libraries import fast_to_run

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


def jitted(compute: Compute, mesh: Mesh) -> Any:
    """Returns `compute` for a batch that is shared by the devices of a mesh, whose logits stay with them."""
    options = fast_to_run(mesh.devices.flat[0].platform)
    return jax.jit(compute, out_shardings=by_rows(mesh), compiler_options=options)


def _by_batches(compute: Compute, mesh: Mesh, batch_size: int) -> Predict:
    """Compiles `compute` and runs it over all examples."""
    batch_size = shared_batch(batch_size, mesh.devices.size)
    sharding, mine, compiled = by_rows(mesh), process_rows(mesh, batch_size), jitted(compute, mesh)

    def predict(variables: Mapping[str, Any], images: npt.NDArray[Any] | CentreCrops) -> npt.NDArray[np.float32]:
        pending = []
        for number, some in enumerate(_batches(images, batch_size, mine)):
            local = _filled(some, len(mine)), (number * batch_size + mine).astype(np.int32)
            inputs, rows = (jax.make_array_from_process_local_data(sharding, part) for part in local)
            pending.append((rows, compiled(variables, inputs, rows)))
        return _in_order(pending, len(images))

    return predict


def _batches(
    images: npt.NDArray[Any] | CentreCrops, batch_size: int, mine: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[Any]]:
    """Yields the rows of every batch that belong to this process; the last batch has what is left."""
    if isinstance(images, CentreCrops):
        yield from images.batches(batch_size, mine)
        return
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        yield batch if len(mine) == batch_size else batch[mine[mine < len(batch)]]


def _in_order(pending: Sequence[tuple[jax.Array, jax.Array]], examples: int) -> npt.NDArray[np.float32]:
    """Returns the logits of all examples, from those that the devices of every process hold with their numbers."""
    rows = np.concatenate([_held(numbers) for numbers, _ in pending])
    values = np.concatenate([_held(logits) for _, logits in pending]).astype(np.float32)
    if jax.process_count() > 1:
        rows, values = (np.concatenate(parts) for parts in multihost_utils.process_allgather((rows, values)))
    real = rows < examples
    rows, values = rows[real], values[real]
    if not np.array_equal(np.sort(rows), np.arange(examples)):
        raise AssertionError(f"{len(np.unique(rows))} of {examples} examples gave {len(rows)} predictions")
    return values[np.argsort(rows)]


def _held(array: jax.Array) -> npt.NDArray[Any]:
    """Returns the rows that devices of this process hold, device by device."""
    return np.concatenate([np.asarray(shard.data) for shard in array.addressable_shards])


def _filled(images: npt.NDArray[Any], batch_size: int) -> npt.NDArray[Any]:
    missing = batch_size - len(images)
    return np.pad(images, ((0, missing), *((0, 0),) * (images.ndim - 1))) if missing else images
