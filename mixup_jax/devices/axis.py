"""One device's rows of the global batch under pmap, and sums over the devices.

Without a mapped axis (under jit) the program sees the whole batch, and these functions return their arguments.
`mesh` is the mesh over which jit divides the program; it is None with one device and under pmap.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.devices.mesh import by_rows

Rows = TypeVar("Rows")


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
