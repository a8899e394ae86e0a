"""The devices of a run as a one-dimensional mesh, and the rows of a batch that each device and process holds."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def by_rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch by its first axis over a one-dimensional mesh."""
    return NamedSharding(mesh, PartitionSpec(*mesh.axis_names))


def process_rows(mesh: Mesh, batch_size: int) -> npt.NDArray[np.int64]:
    """Returns the rows of a batch that the devices of this process hold, ascending."""
    held = by_rows(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held if index is not None]))


def device_mesh(devices: list[Any] | None = None) -> Mesh:
    """Returns a one-dimensional mesh over the given devices, all of them by default."""
    chosen = jax.devices() if devices is None else devices
    return Mesh(np.array(chosen), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Returns the arrays of `tree` with a copy on every device; all processes must pass the same values."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(partial(_replicated, everywhere), tree)


def _replicated(everywhere: NamedSharding, leaf: Any) -> jax.Array:
    # device_put would compare the arrays of all processes byte by byte, and does not accept random keys.
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_replicated(everywhere, jax.random.key_data(leaf)))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, everywhere, lambda index: values[index])
