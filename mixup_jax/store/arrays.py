"""How orbax writes and reads the arrays of a checkpoint: its own format, with few threads and in order."""

from __future__ import annotations

import asyncio
from typing import Any

import jax
import orbax.checkpoint as ocp

FILES_AT_ONCE = 1
"""How many files of an item are written or read at once; its arrays share few, so more make no save faster."""


class Trees(ocp.PyTreeCheckpointHandler):
    """Saves and restores an item, a tree of `jax.Array`.

    Checkpoints that orbax's default handlers wrote are restored, and these restore ours.
    """

    def __init__(self) -> None:
        super().__init__(type_handler_registry=array_types())

    def finalize(self, directory: Any) -> None:
        """Merges what the processes wrote of the item."""
        merge = ocp.type_handlers.merge_ocdbt_per_process_files
        asyncio.run(merge(directory, ts_context=_few_threads(), use_zarr3=False))


def array_types() -> Any:
    """Returns what says that arrays are written and read as here."""
    return ocp.type_handlers.create_type_handler_registry((jax.Array, _Arrays()))


class _Arrays(ocp.type_handlers.ArrayHandler):
    """Writes and reads what a process holds of the arrays of an item."""

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> Any:
        context = _few_threads()
        for info in infos:
            info.ts_context = context
        return await super().serialize(values, infos, args)

    # One array after the other.  Where many are opened or read at once and one of them is damaged, the event loop is
    # closed while others are still being read, and each of them prints a traceback.

    async def metadata(self, infos: Any) -> Any:
        read = super().metadata
        return [found for info in infos for found in await read([info])]

    async def deserialize(self, infos: Any, args: Any = None) -> Any:
        read = super().deserialize
        return [array for info, arg in zip(infos, args, strict=True) for array in await read([info], [arg])]


def _few_threads() -> Any:
    """Returns the tensorstore context of a save.

    Orbax's default lets each item of a save ask for 128 threads. Tensorstore's pool starts one whenever work has waited
    for 5 ms, and ends one only when it had nothing to do for 20 s. Where saves follow each other faster, the pool would
    grow to the most that any of them ever happened to need.
    """
    return ocp.type_handlers.get_ts_context(use_ocdbt=True, file_io_concurrency_limit=FILES_AT_ONCE)
