"""Which examples of a batch belong to this process, where several share the devices of a run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def by_rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch by its first axis over a one-dimensional mesh."""
    return NamedSharding(mesh, PartitionSpec(*mesh.axis_names))


def process_rows(mesh: Mesh, batch_size: int) -> npt.NDArray[np.int64]:
    """Returns the rows of a batch that the devices of this process hold, in increasing order; all if it is alone."""
    held = by_rows(mesh).addressable_devices_indices_map((batch_size,)).values()
    return np.unique(np.concatenate([np.arange(batch_size)[index] for index in held if index is not None]))
