"""The devices of a run as a one-dimensional mesh, and the rows of a batch that each device and process holds.

Functions with an `axis_name` are called within the step.  Without a mapped axis (under jit) the program sees the whole
batch, and they return their arguments.  Their `mesh` is the one over which jit divides the program; it is None with one
device and under pmap.
"""

import math
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "batch"
Rows = TypeVar("Rows")


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


def global_rows(rows: int, axis_name: str | None) -> int:
    """Returns the number of rows on all devices together, given the number on one."""
    return rows if axis_name is None else rows * jax.lax.axis_size(axis_name)


def local_rows(values: Rows, axis_name: str | None, together: int = 1) -> Rows:
    """Returns this device's part of the leading axis of every array; without a mapped axis, all of it.

    `together` neighbouring devices get the same rows, those of all of them.
    """
    if axis_name is None:
        return values
    shares, index = jax.lax.axis_size(axis_name) // together, jax.lax.axis_index(axis_name) // together
    return jax.tree.map(partial(_share, shares=shares, index=index), values)


def neighbours(rows: int, size: int, axis_name: str | None, mesh: Mesh | None) -> int:
    """Returns how many neighbouring devices together hold whole mixing groups; 1 if each device holds whole groups.

    `rows`, those of the global batch, must be a multiple of the number of devices and of the group size `size`.
    """
    devices = jax.lax.axis_size(axis_name) if axis_name is not None else 1 if mesh is None else mesh.size
    held = rows // devices
    return math.lcm(held, size) // held


def gather_rows(values: jax.Array, axis_name: str | None, together: int) -> jax.Array:
    """Returns the rows of `together` neighbouring devices, including this one, in the order of the global batch."""
    if axis_name is None or together == 1:
        return values
    devices = range(jax.lax.axis_size(axis_name))
    groups = [list(devices[first : first + together]) for first in devices[::together]]
    return jax.lax.all_gather(values, axis_name, axis_index_groups=groups, tiled=True)


def own_rows(values: jax.Array, axis_name: str | None, together: int) -> jax.Array:
    """Returns this device's rows from those of `together` neighbouring devices: the inverse of `gather_rows`."""
    if axis_name is None or together == 1:
        return values
    return _share(values, shares=together, index=jax.lax.axis_index(axis_name) % together)


def _share(value: jax.Array, *, shares: int, index: jax.Array) -> jax.Array:
    rows = value.shape[0] // shares
    return jax.lax.dynamic_slice_in_dim(value, index * rows, rows)


def sum_over_devices(values: Rows, axis_name: str | None) -> Rows:
    """Returns the sum of every array over the devices."""
    return values if axis_name is None else jax.lax.psum(values, axis_name)


def on_every_device(values: Rows, mesh: Mesh | None) -> Rows:
    """Returns the same arrays, replicated: every device of a mesh computes them whole.

    Otherwise XLA shards the Beta sampler, and its rejection loop needs a collective per iteration.
    """
    return values if mesh is None else jax.lax.with_sharding_constraint(values, NamedSharding(mesh, PartitionSpec()))


def rows_on_their_devices(values: Rows, mesh: Mesh | None) -> Rows:
    """Returns the same arrays, sharded over the devices of a mesh by their leading axis.

    Otherwise XLA may replicate the mixed rows of a group that spans devices, and have each device compute the network
    for all of them: 8 times the work on 8 devices that hold 16 rows each of a group of 128.
    """
    return values if mesh is None else jax.lax.with_sharding_constraint(values, by_rows(mesh))
