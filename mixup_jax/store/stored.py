"""Checkpoints as they lie in a folder: which there are, what they hold, and whether they are whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding

from mixup_jax.errors import InputError
from mixup_jax.store.integrity import CHECKSUMS, check_format, damage_of_facts, damage_of_item

ITEMS = ("variables", "optimizer")
BEST = "validation_accuracy"
"""The metric, larger is better, that chooses the best checkpoint; of equals the later is kept."""
METRICS = "metrics"
"""The item that holds it, for a state that was validated."""
DAMAGED = "damaged-"
"""What the name of a folder begins with that a damaged checkpoint was moved to."""


@dataclass(frozen=True)
class Stored:
    """One checkpoint of a folder.

    Attributes:
      step: its number.
      facts: what was saved about it; empty where they cannot be read.
      damage: what is wrong with it, None if it is whole.
      verified: it has checksums, and they are right.
      size: bytes on disk.
    """

    step: int
    facts: dict[str, Any]
    damage: str | None
    verified: bool
    size: int


def steps_in(directory: Path) -> list[int]:
    """Returns the steps that a folder has checkpoints of, rising, whole or not; none where there is no folder."""
    if not directory.is_dir():
        return []
    names = [path.name for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(int(name) for name in names if name == str(int(name)))


def inspect(directory: Path, step: int) -> Stored:
    """Reads a checkpoint from end to end, and compares it with its checksums.

    Raises:
      InputError: a newer version of the package wrote it.
    """
    path = directory / str(step)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    facts, damage = _facts(path)
    if damage is None:
        check_format(facts, path)
    for name in (METRICS, *ITEMS):
        damage = damage or _damage_of_stored_item(path, name, facts)
    return Stored(step, facts, damage, damage is None and CHECKSUMS in facts, size)


def _facts(path: Path) -> tuple[dict[str, Any], str | None]:
    """Returns what was saved about a checkpoint, and what is wrong with it; nothing where anything is."""
    try:
        facts = ocp.JsonCheckpointHandler().restore(path.resolve() / "facts")
    except Exception as error:  # orbax raises anything here
        return {}, f"facts cannot be read ({_first_line(error)})"
    damage = damage_of_facts(facts, int(path.name))
    return (facts, None) if damage is None else ({}, damage)


def _damage_of_stored_item(path: Path, name: str, facts: dict[str, Any]) -> str | None:
    try:
        return damage_of_item(name, _read_metrics(path) if name == METRICS else read_item(path / name), facts)
    except Exception as error:  # orbax raises anything here, bare Exception included
        return f"{name} cannot be read ({_first_line(error)})"


def read_item(path: Path) -> Any:
    """Returns an item, whatever devices it was saved on, on one; tuples come as lists, named ones as dicts.

    It is read as `Checkpoints.restore_state` reads it, so that what is whole here can be restored there.

    Raises:
      Exception: it is missing or cannot be decoded.
    """
    path = path.resolve()
    handler = ocp.StandardCheckpointHandler()
    metadata = handler.metadata(path)
    tree = getattr(metadata, "tree", metadata)
    on_one = ocp.ArrayRestoreArgs(sharding=SingleDeviceSharding(jax.local_devices()[0]))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(restore_args=jax.tree.map(lambda _: on_one, tree))
        )


def _read_metrics(path: Path) -> dict[str, float]:
    """Returns what ranks a checkpoint, nothing for one that was not validated."""
    file = path / METRICS / METRICS
    return {name: float(value) for name, value in json.loads(file.read_bytes()).items()} if file.exists() else {}


def best_step(directory: Path, report: Callable[[str], None]) -> int | None:
    """Returns the step of the best checkpoint, None without any; `report` takes a line for each without a rank."""
    scores = {}
    for step in steps_in(directory):
        damage = _damage_of_rank(directory / str(step))
        if damage is not None:
            report(f"warning: checkpoint {directory / str(step)} is damaged: {damage}; it is not counted as the best")
        elif BEST in (metrics := _read_metrics(directory / str(step))):
            scores[step] = metrics[BEST]
    return max(scores, key=lambda step: (scores[step], step), default=None)


def _damage_of_rank(path: Path) -> str | None:
    facts, damage = _facts(path)
    return damage or _damage_of_stored_item(path, METRICS, facts)


def newest_whole(directory: Path, report: Callable[[str], None]) -> int | None:
    """Returns the newest step whose checkpoint is whole, None without any; `report` takes a line for each newer one."""
    for step in reversed(steps_in(directory)):
        found = inspect(directory, step)
        if found.damage is None:
            return step
        report(f"warning: checkpoint {directory / str(step)} is damaged: {found.damage}; using the one before it")
    return None


def remove_leftovers(directory: Path) -> None:
    """Removes what saves left behind that were interrupted; nobody else may be saving to the folder."""
    for path in directory.glob("*.orbax-checkpoint-tmp*") if jax.process_index() == 0 else ():
        shutil.rmtree(path, ignore_errors=True)


def set_damaged_aside(directory: Path, report: Callable[[str], None]) -> None:
    """Moves damaged checkpoints that are newer than every whole one out of the way; training will make them again.

    Older ones that cannot be ranked are moved, too: orbax would not open a folder that has such a one.

    Raises:
      InputError: one cannot be moved.
    """
    whole = newest_whole(directory, report)
    steps = steps_in(directory)
    damaged = [step for step in steps if whole is None or step > whole or _damage_of_rank(directory / str(step))]
    if jax.process_count() > 1:  # nobody moves what another process still reads, nor goes on before it is moved
        multihost_utils.sync_global_devices("checkpoints inspected")
    for step in damaged if jax.process_index() == 0 else ():
        aside = directory / f"{DAMAGED}{step}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            (directory / str(step)).rename(aside)
        except OSError as error:
            raise InputError(
                f"damaged checkpoint {directory / str(step)} cannot be moved to {aside} ({error}); "
                "expected a folder of yours"
            ) from error
        report(f"warning: the damaged checkpoint is kept as {aside}; delete it when you do not need it")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("damaged checkpoints moved")


def _first_line(error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0][:200]
    return f"{type(error).__name__}: {reason}"
