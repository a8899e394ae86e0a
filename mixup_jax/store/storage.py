"""How the arrays of a checkpoint are written: as orbax does it, but by a number of threads that does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp

FILES_AT_ONCE = 1
"""How many files of an item are written or read at once; its arrays share few, so more make no save faster."""


def item_handlers(items: Sequence[str]) -> ocp.handlers.CheckpointHandlerRegistry:
    """Returns what a checkpoint manager saves items with, given as `PyTreeSave`, and restores by `StandardRestore`.

    The format is orbax's own; checkpoints that its default handlers wrote are restored, and these restore ours.

    Args:
      items: their names; each is a tree of `jax.Array`.
    """
    registry, trees = ocp.handlers.DefaultCheckpointHandlerRegistry(), _Trees()
    for item in items:
        registry.add(item, ocp.args.PyTreeSave, trees)
        registry.add(item, ocp.args.StandardRestore)
    return registry


def _few_threads() -> Any:
    """Returns the tensorstore context of a save.

    Orbax's default lets each item of a save ask for 128 threads. Tensorstore's pool starts one whenever work has waited
    for 5 ms, and ends one only when it had nothing to do for 20 s. Where saves follow each other faster, the pool would
    grow to the most that any of them ever happened to need.
    """
    return ocp.type_handlers.get_ts_context(use_ocdbt=True, file_io_concurrency_limit=FILES_AT_ONCE)


class _Arrays(ocp.type_handlers.ArrayHandler):
    """Writes what a process holds of the arrays of an item."""

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> Any:
        context = _few_threads()
        for info in infos:
            info.ts_context = context
        return await super().serialize(values, infos, args)


class _Trees(ocp.PyTreeCheckpointHandler):
    """Writes an item, and merges what the processes wrote of it."""

    def __init__(self) -> None:
        super().__init__(type_handler_registry=ocp.type_handlers.create_type_handler_registry((jax.Array, _Arrays())))

    def finalize(self, directory: Any) -> None:
        merge = ocp.type_handlers.merge_ocdbt_per_process_files
        asyncio.run(merge(directory, ts_context=_few_threads(), use_zarr3=False))
