"""The mapped axis of pmap, seen from one device: its rows of the global batch, and sums over all devices.

Without an axis (jit) the program sees the whole batch, and all of this is the identity.
"""

from __future__ import annotations

from typing import TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.devices.mesh import by_rows

Rows = TypeVar("Rows")


def global_rows(rows: int, axis_name: str | None) -> int:
    """Returns how many rows all devices hold together, of which this one holds `rows`."""
    return rows if axis_name is None else rows * jax.lax.axis_size(axis_name)


def local_rows(values: Rows, axis_name: str | None) -> Rows:
    """Returns this device's share of the leading axis of every array; all of it without an axis."""
    if axis_name is None:
        return values
    devices, index = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

    def rows(value: jax.Array) -> jax.Array:
        share = value.shape[0] // devices
        return jax.lax.dynamic_slice_in_dim(value, index * share, share)

    return jax.tree.map(rows, values)


def sum_over_devices(values: Rows, axis_name: str | None) -> Rows:
    """Returns the sum of every array over the devices."""
    return values if axis_name is None else jax.lax.psum(values, axis_name)


def on_every_device(values: Rows, mesh: Mesh | None) -> Rows:
    """Returns the same arrays, computed whole on every device of a mesh.

    Otherwise XLA shards the Beta sampler, and its rejection loop needs a collective per iteration.

    Args:
      values: arrays.
      mesh: over which jit divides a program; None without devices to divide it among, or under pmap.
    """
    return values if mesh is None else jax.lax.with_sharding_constraint(values, NamedSharding(mesh, PartitionSpec()))


def rows_on_their_devices(values: Rows, mesh: Mesh | None) -> Rows:
    """Returns the same arrays, sharded over the devices of a mesh by their leading axis.

    Otherwise XLA may replicate the mixed rows of a group that spans devices, and have each device compute the network
    for all of them: 8 times the work on 8 devices that hold 16 rows each of a group of 128.

    Args:
      values: arrays.
      mesh: over which jit divides a program; None without devices to divide it among, or under pmap.
    """
    return values if mesh is None else jax.lax.with_sharding_constraint(values, by_rows(mesh))
