"""Checkpoints: the last and the best state of a run, with the config that made them.

A checkpoint holds three items, so that a reader takes only what it needs: `variables` (what
prediction needs), `optimizer` (what resuming needs besides) and `facts` (JSON: the config and its
provenance; a checkpoint can be evaluated without any other file).
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mixup_jax.errors import InputError
from mixup_jax.records import TrainState

BEST = "validation_accuracy"
"""The metric, larger is better, that chooses the best checkpoint; of equals the later is kept."""


class Checkpoints:
    """The checkpoints in one folder.

    Saving is asynchronous: the call returns once the state is copied, and the folder of a step
    appears whole or not at all.  Use as a context manager, or call `close`, which waits for the
    last save and raises if one failed.
    """

    def __init__(self, directory: Path) -> None:
        policies = [
            preservation_policy.LatestN(1),
            preservation_policy.BestN(get_metric_fn=lambda metrics: metrics[BEST], n=1),
        ]
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics[BEST],
            best_mode="max",
            preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(directory.resolve(), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Waits until everything is on disk; raises what an asynchronous save raised."""
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def last(self) -> int | None:
        """The newest step, None where there is no checkpoint."""
        return self._manager.latest_step()

    def step_of(self, choice: str) -> int:
        """Returns the step that `choice` names: "last", "best", or the number of a step.

        Raises:
          InputError: there is no checkpoint, or none of that step; the message lists those there are.
        """
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise InputError(
                f"{self._manager.directory} holds no checkpoint; expected a folder that training has saved to"
            )
        if choice == "last":
            return steps[-1]
        if choice == "best":
            best = self._manager.best_step()
            return steps[-1] if best is None else best
        if not choice.isdecimal() or int(choice) not in steps:
            available = ", ".join(map(str, steps))
            raise InputError(
                f"checkpoint {choice!r} is not in {self._manager.directory}; choose last, best or one of: {available}"
            )
        return int(choice)

    def save(self, state: TrainState, facts: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts to save `state` under its step.

        Args:
          state: of which a copy is taken, so the caller may donate it at once.
          facts: JSON-serialisable; `config` is what `restore_facts` callers rely on.
          metrics: must hold `BEST`.
        """
        # The training step reuses the buffers of a state that it is given, while the save still reads.
        state = jax.tree.map(jnp.copy, state)
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(state.variables),
            optimizer=ocp.args.StandardSave({"step": state.step, "opt_state": state.opt_state}),
            facts=ocp.args.JsonSave(facts),
        )
        self._manager.save(int(state.step), args=items, metrics={BEST: metrics[BEST]})

    def restore_facts(self, step: int) -> dict[str, Any]:
        """Returns the facts saved with a step."""
        return self._restore(step, facts=ocp.args.JsonRestore())["facts"]

    def restore_variables(self, step: int, like: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
        """Returns `params` and `batch_stats` of a step, with a copy on every device of `mesh`.

        Args:
          step: as listed by `step_of`.
          like: `params` and `batch_stats`, or their shapes, of the network that was saved.
          mesh: of this process; the number of devices that saved does not matter.
        """
        return self._restore(step, variables=_standard(like, mesh))["variables"]

    def restore_state(self, step: int, like: TrainState, mesh: Mesh) -> TrainState:
        """Returns the whole state of a step; `like` is a state, or its shapes, of the same run."""
        optimizer = {"step": like.step, "opt_state": like.opt_state}
        items = self._restore(step, variables=_standard(like.variables, mesh), optimizer=_standard(optimizer, mesh))
        return TrainState(**items["optimizer"], **items["variables"])

    def _restore(self, step: int, **items: Any) -> dict[str, Any]:
        try:
            return dict(self._manager.restore(step, args=ocp.args.Composite(**items)).items())
        except Exception as error:  # orbax raises anything here, bare Exception included
            reason = str(error).strip().partition("\n")[0][:200]
            raise InputError(
                f"checkpoint {step} in {self._manager.directory} cannot be restored "
                f"({type(error).__name__}: {reason}); expected a whole checkpoint of this config's network: "
                "choose another, or move its folder away to go on from the one before"
            ) from error


def _standard(tree: Any, mesh: Mesh) -> ocp.args.StandardRestore:
    """Asks for `tree`'s shapes, replicated over the devices of here, not of where it was saved."""
    sharding = NamedSharding(mesh, PartitionSpec())
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
    return ocp.args.StandardRestore(shapes)
