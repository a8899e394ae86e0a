"""Checkpoints on disk; here, how their arrays are written and read.

The format is orbax's; there are few threads, and one array comes after another.
"""

import asyncio
from typing import Any

import jax
import orbax.checkpoint as ocp

FILES_AT_ONCE = 1
"""How many files of an item are written or read at once; its arrays share few files, so more is not faster."""


class Trees(ocp.PyTreeCheckpointHandler):
    """Saves and restores an item, a tree of `jax.Array`.

    The format is that of orbax's default handlers: either can restore checkpoints of the other.
    """

    def __init__(self) -> None:
        super().__init__(type_handler_registry=array_types())

    def finalize(self, directory: Any) -> None:
        """Merges the parts of the item that the processes wrote."""
        merge = ocp.type_handlers.merge_ocdbt_per_process_files
        asyncio.run(merge(directory, ts_context=_few_threads(), use_zarr3=False))


def array_types() -> Any:
    """Returns the registry by which orbax writes and reads arrays with `_Arrays`."""
    return ocp.type_handlers.create_type_handler_registry((jax.Array, _Arrays()))


class _Arrays(ocp.type_handlers.ArrayHandler):
    """Writes and reads this process's part of the arrays of an item."""

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> Any:
        context = _few_threads()
        for info in infos:
            info.ts_context = context
        return await super().serialize(values, infos, args)

    # One array after another.  If many are read at once and one is damaged, the event loop is closed while the others
    # are still being read, and each of these prints a traceback.

    async def metadata(self, infos: Any) -> Any:
        read = super().metadata
        return [found for info in infos for found in await read([info])]

    async def deserialize(self, infos: Any, args: Any = None) -> Any:
        read = super().deserialize
        return [array for info, arg in zip(infos, args, strict=True) for array in await read([info], [arg])]


def _few_threads() -> Any:
    """Returns the tensorstore context of a save.

    By orbax's default, each item of a save may use 128 threads. Tensorstore's pool starts a thread whenever work has
    waited for 5 ms, and ends a thread only after it was idle for 20 s. If saves follow each other faster, the pool
    grows to the largest number of threads that any save needed.
    """
    return ocp.type_handlers.get_ts_context(use_ocdbt=True, file_io_concurrency_limit=FILES_AT_ONCE)
