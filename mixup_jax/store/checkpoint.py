"""Checkpoints: the last states and the best state of a run, with its config.

A checkpoint holds three items, so that a reader reads only what it needs: `variables` (for prediction), `optimizer`
(for resuming) and `facts` (JSON: the config, its provenance, and the checksums of all three items, which are verified
whenever they are read).  A checkpoint can be evaluated without any other file.
"""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mixup_jax.devices.processes import is_first
from mixup_jax.errors import DiskFullError, InputError
from mixup_jax.escapes import print_line
from mixup_jax.state import TrainState
from mixup_jax.store import Trees, verify

TRAINED = "trained"
"""The part of the item `optimizer` with the network that is trained, where `variables` has its moving average."""
BYTES_BESIDE_A_LEAF, BYTES_BESIDE_ALL = 2 << 10, 192 << 10
"""Bytes on disk, rounded up: a checkpoint of ResNet-8 with 11 kB of numbers in 60 arrays takes 233 kB."""


class Checkpoints:
    """The checkpoints in one folder: the last few, and the best.

    Saving is asynchronous: the call returns when the state has been copied, and the folder of a step
    appears complete or not at all.  Use it as a context manager, or call `close`, which waits for the
    last save and raises if it failed.
    """

    def __init__(
        self, directory: Path, *, keep: int = 2, read_only: bool = False, report: Callable[[str], None] = print_line
    ) -> None:
        """Opens the folder of a run's checkpoints; the last `keep` and the best are kept.

        With `read_only` nothing is changed, so that the run may still be training.  Otherwise leftovers of interrupted
        saves are removed, and damaged newest checkpoints are moved aside; a line reports each.
        """
        self._directory, self._report = directory.resolve(), report
        logging.getLogger("absl").addFilter(_not_a_failed_save)
        self._saving, self._needed = 0, 0
        if not read_only:
            if is_first():
                for leftover in self._directory.glob("*.orbax-checkpoint-tmp*"):
                    shutil.rmtree(leftover, ignore_errors=True)
            verify.set_damaged_aside(self._directory, report)
        policies = [preservation_policy.LatestN(keep), preservation_policy.BestN(get_metric_fn=verify.rank, n=1)]
        options = ocp.CheckpointManagerOptions(
            best_fn=verify.rank,
            best_mode="max",
            preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            enable_async_checkpointing=True,
            lightweight_initialize=read_only,  # else orbax reads every checkpoint's metric, and fails at a damaged one
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options, handler_registry=_item_handlers())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Waits until everything is on disk; raises InputError if a save failed."""
        try:
            self.wait()
            self._manager.close()
        finally:
            logging.getLogger("absl").removeFilter(_not_a_failed_save)

    def wait(self) -> None:
        """Waits until the last save is on disk; raises as `close` does."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # orbax may raise any exception here
            raise self._not_saved(error) from error

    @property
    def last(self) -> int | None:
        """The newest step; None if there is no checkpoint."""
        return self._manager.latest_step()

    def step_of(self, choice: str) -> int:
        """Returns the step that `choice` names: "last", "best", or the number of a step.

        The last is the newest undamaged one; damaged newer ones are reported.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise InputError(f"{self._directory} holds no checkpoint; expected a folder that training has saved to")
        if choice == "last":
            whole = verify.newest_whole(self._directory, self._report)
            return steps[-1] if whole is None else whole
        if choice == "best":
            best = verify.best_step(self._directory, self._report)
            return steps[-1] if best is None else best
        if not choice.isdecimal() or int(choice) not in steps:
            available = ", ".join(map(str, steps))
            raise InputError(
                f"checkpoint {choice!r} is not in {self._directory}; choose last, best or one of: {available}"
            )
        return int(choice)

    def save(self, state: TrainState, facts: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Starts to save `state` under its step, and replaces a checkpoint of that step.

        The state is copied first, so the caller may donate it at once; a state that is not finite is refused.  The
        facts must include `config`.  One of the metrics ranks the checkpoint (`RANKS`); without it, it is never best.
        """
        step = int(state.step)
        items = {"variables": state.variables, "optimizer": _for_resuming(state)}
        on_host = jax.device_get(items)
        verify.check_state(on_host, step)
        self._require_space(step, on_host)
        self.wait()
        if step in self._manager.all_steps():
            self._manager.delete(step)
        # Copy, because the training step reuses the buffers of its state while the save is still reading.
        trees = {name: ocp.args.PyTreeSave(jax.tree.map(jnp.copy, tree)) for name, tree in items.items()}
        ranking = verify.ranked_by(metrics)
        arguments = ocp.args.Composite(
            **trees, facts=ocp.args.JsonSave(verify.sealed(facts, step, {**on_host, verify.METRICS: ranking}))
        )
        self._saving, self._needed = step, _bytes_on_disk(on_host)
        try:
            self._manager.save(step, args=arguments, metrics=ranking)
        except Exception as error:  # orbax raises anything here
            raise self._not_saved(error) from error

    def _require_space(self, step: int, items: Any) -> None:
        needed, free = _bytes_on_disk(items), shutil.disk_usage(self._directory).free
        if free < needed:
            raise DiskFullError(
                f"checkpoint {step} needs {_megabytes(needed)} in {self._directory}, where {_megabytes(free)} are "
                f"free; {self._what_remains()}: make room and start the command again"
            )

    def _not_saved(self, error: Exception) -> InputError:
        reason, free = verify.reason_of(error), shutil.disk_usage(self._directory).free
        full = free < self._needed or os.strerror(errno.ENOSPC) in reason
        return (DiskFullError if full else InputError)(
            f"checkpoint {self._saving} could not be saved to {self._directory} ({reason}); it needs up to "
            f"{_megabytes(self._needed)}, {_megabytes(free)} are free; {self._what_remains()}: make room and start the "
            "command again"
        )

    def _what_remains(self) -> str:
        steps = verify.steps_in(self._directory)
        return f"the last that is saved is that of step {steps[-1]}" if steps else "none is saved yet"

    def restore_facts(self, step: int) -> dict[str, Any]:
        """Returns the facts saved with a step, including its `config`."""
        facts = verify.unsealed(self._facts(step))
        if "config" not in facts:
            raise self._not_restored(step, "facts lack the config")
        return facts

    def _facts(self, step: int) -> dict[str, Any]:
        facts = self._restore(step, facts=ocp.args.JsonRestore())["facts"]
        damage = verify.damage_of_facts(facts, step)
        if damage is not None:
            raise self._not_restored(step, damage)
        verify.check_format(facts, self._directory / str(step))
        return dict(facts)

    def restore_variables(self, step: int, like: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
        """Returns `params` and `batch_stats` of a step, with a copy on every device of `mesh`.

        `like` holds those of the saved network, or their shapes.  The checkpoint may come from any number of devices.
        """
        return self._verified(step, variables=_like(like, mesh))["variables"]

    def restore_state(self, step: int, like: TrainState, mesh: Mesh) -> TrainState:
        """Returns the whole state of a step; `like` is a state, or its shapes, of the same run."""
        items = self._verified(step, variables=_like(like.variables, mesh), optimizer=_like(_for_resuming(like), mesh))
        optimizer, variables = items["optimizer"], items["variables"]
        if TRAINED not in optimizer:
            return TrainState(**optimizer, **variables)
        trained = optimizer.pop(TRAINED)
        return TrainState(**optimizer, **trained, average=variables)

    def _verified(self, step: int, **items: Any) -> dict[str, Any]:
        """Returns the items of a step after comparing them with their checksums."""
        facts = self._facts(step)
        restored = self._restore(step, **items)
        for name, tree in restored.items():
            damage = verify.damage_of_item(name, tree, facts)
            if damage is not None:
                raise self._not_restored(step, damage)
        return restored

    def _restore(self, step: int, **items: Any) -> dict[str, Any]:
        try:
            return dict(self._manager.restore(step, args=ocp.args.Composite(**items)).items())
        except Exception as error:  # orbax may raise any exception here, even a bare Exception
            raise self._not_restored(step, verify.reason_of(error)) from error

    def _not_restored(self, step: int, reason: str) -> InputError:
        return InputError(
            f"checkpoint {step} in {self._directory} cannot be restored "
            f"({reason}); expected a whole checkpoint of this config's network: "
            "choose another, or move its folder away to go on from the one before"
        )


def _for_resuming(state: TrainState) -> dict[str, Any]:
    """Returns the item `optimizer`: what resuming needs beside the variables that prediction needs."""
    item = {"step": state.step, "opt_state": state.opt_state}
    return item if state.average is None else {**item, TRAINED: state.trained}


def _bytes_on_disk(tree: Any) -> int:
    """Returns an estimate of a checkpoint's bytes on disk: its arrays and its metadata files."""
    leaves = jax.tree.leaves(tree)
    return sum(leaf.nbytes for leaf in leaves) + BYTES_BESIDE_A_LEAF * len(leaves) + BYTES_BESIDE_ALL


def _not_a_failed_save(record: logging.LogRecord) -> bool:
    """Returns False for the log record of a failed save, whose error is raised in any case, as one line."""
    return "raised an exception" not in record.getMessage()


def _megabytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB"


def _like(tree: Any, mesh: Mesh) -> ocp.args.PyTreeRestore:
    """Returns restore arguments for arrays of `tree`'s shapes with a copy on every device of `mesh`."""
    sharding = NamedSharding(mesh, PartitionSpec())
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
    return ocp.args.PyTreeRestore(shapes, restore_args=ocp.checkpoint_utils.construct_restore_args(shapes))


def _item_handlers() -> ocp.handlers.CheckpointHandlerRegistry:
    registry, trees = ocp.handlers.DefaultCheckpointHandlerRegistry(), Trees()
    for item in verify.ITEMS:
        registry.add(item, ocp.args.PyTreeSave, trees)
        registry.add(item, ocp.args.PyTreeRestore, trees)
    return registry
