"""Checksums of checkpoints: which checkpoints a folder holds, and which of them are damaged.

Checksums are computed from values, not from files, so they do not depend on the number of devices or on how orbax
arranges its files.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from mixup_jax.devices.processes import is_first, wait_for_all
from mixup_jax.errors import InputError
from mixup_jax.store import array_types

FORMAT = 1
"""The format of checkpoints; it increases when a version of this package can no longer read the previous format."""
CHECKSUMS, FORMAT_KEY, STEP_KEY = "checksums", "format", "step"
FACTS: dict[str, type | tuple[type, ...]] = {
    "config": dict,
    "scores": dict,
    "recent": list,
    "vocabulary": str,
    "weights": str,
    "total_steps": int,
    "metrics_lines": int,
    "training_seconds": (int, float),
}
"""The type of each fact that this package reads; checked, because a checkpoint may come from anyone."""
ITEMS = ("variables", "optimizer")
RANKS = {"validation_refinement": -1.0, "validation_accuracy": 1.0}
"""The metrics that select the best checkpoint, of which the first counts that a validation has, and the sign with which
larger is better; of equal ones the latest is the best."""
METRICS = "metrics"
"""The item that holds this metric; a state that was not validated has no metric."""
DAMAGED = "damaged-"
"""The prefix of the folders to which damaged checkpoints are moved."""


@dataclass(frozen=True)
class Stored:
    """One checkpoint of a folder: its facts, which are empty if they cannot be read, and its bytes on disk.

    `damage` is what is wrong with it, None if nothing is; `verified` whether it has checksums and they are right.
    """

    step: int
    facts: dict[str, Any]
    damage: str | None
    verified: bool
    size: int


def checksum(tree: Any) -> str:
    """Returns the SHA-256 of a tree of arrays: of each leaf's name, dtype, shape and bytes, in the order of the names.

    Leaves may be arrays of jax or numpy.  The kind of container enters only by the names of its fields.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(_named_leaves(tree)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name}|{array.dtype}|{list(np.shape(leaf))}|".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def check_state(state: Any, step: int) -> None:
    """Raises InputError, which names the array, if an array of a tree contains NaN or infinity."""
    for name, leaf in _named_leaves(state):
        if not np.isfinite(leaf).all():
            raise InputError(
                f"{name} holds NaN or infinity after step {step}; it is not saved, and checkpoints that were saved "
                "before are intact. Suspects: optimizer.learning_rate, model.dtype, the data; or pass over such steps "
                "with --config.on_nan=skip"
            )


def sealed(facts: Mapping[str, Any], step: int, items: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts with the checkpoint's step and format and the checksums of its items and of the facts."""
    facts = {**facts, STEP_KEY: step, FORMAT_KEY: FORMAT}
    sums = {name: checksum(tree) for name, tree in items.items()}
    return facts | {CHECKSUMS: sums | {"facts": _facts_checksum(facts)}}


def unsealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts as they were given to `sealed`."""
    return {name: value for name, value in facts.items() if name not in (CHECKSUMS, FORMAT_KEY, STEP_KEY)}


def _facts_checksum(facts: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in facts.items() if name != CHECKSUMS}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_format(facts: Mapping[str, Any], where: object) -> None:
    """Raises InputError if a newer version of the package wrote a checkpoint.

    The oldest checkpoints have no format; they can be read.
    """
    found = facts.get(FORMAT_KEY, 0)
    if not isinstance(found, int) or found > FORMAT:
        raise InputError(
            f"checkpoint {where} has format {found!r}, written by a newer mixup_jax; this one reads formats up to "
            f"{FORMAT}: install that version, or choose another --workdir"
        )


def damage_of_facts(facts: Any, step: int) -> str | None:
    """Returns what is wrong with the facts of a checkpoint; None if nothing is."""
    if not isinstance(facts, dict):
        return f"facts are a {type(facts).__name__}"
    if CHECKSUMS not in facts and facts.get(FORMAT_KEY, 0) != 0:
        return "facts lack their checksums"
    sums = facts.get(CHECKSUMS)
    if CHECKSUMS in facts and not (isinstance(sums, dict) and _facts_checksum(facts) == sums.get("facts")):
        return "facts do not match their checksum"
    for name, kind in FACTS.items():
        if name in facts and not isinstance(facts[name], kind):
            return f"facts have a {name} of type {type(facts[name]).__name__}"
    if not all(isinstance(value, int | float) for value in facts.get("scores", {}).values()):
        return "facts have scores that are no numbers"
    return None if facts.get(STEP_KEY, step) == step else f"it is that of step {facts[STEP_KEY]!r}"


def damage_of_item(name: str, tree: Any, facts: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with an item by its checksum in the facts; None if nothing is or there is no checksum."""
    expected = facts.get(CHECKSUMS, {}).get(name)
    if expected is None or checksum(tree) == expected:
        return None
    return f"{name} does not match its checksum"


def steps_in(directory: Path) -> list[int]:
    """Returns the steps of all checkpoints of a folder, damaged or not, ascending; none if there is no folder."""
    if not directory.is_dir():
        return []
    names = [path.name for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(int(name) for name in names if name == str(int(name)))


def newest_facts(directory: Path) -> dict[str, Any]:
    """Returns the facts of the newest checkpoint of a folder whose facts can be read; empty if there is none."""
    for step in reversed(steps_in(directory)):
        if facts := _read_facts(directory / str(step))[0]:
            return facts
    return {}


def inspect(directory: Path, step: int) -> Stored:
    """Reads a whole checkpoint, and compares it with its checksums."""
    path = directory / str(step)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    facts, damage = _read_facts(path)
    if damage is None:
        check_format(facts, path)
    for name in (METRICS, *ITEMS):
        damage = damage or _damage_on_disk(path, name, facts)
    return Stored(step, facts, damage, damage is None and CHECKSUMS in facts, size)


def _read_facts(path: Path) -> tuple[dict[str, Any], str | None]:
    """Returns the facts of a checkpoint, and what is wrong with them; if anything is, the facts are empty."""
    try:
        facts = ocp.JsonCheckpointHandler().restore(path.resolve() / "facts")
    except Exception as error:  # orbax raises anything here
        return {}, f"facts cannot be read ({reason_of(error)})"
    damage = damage_of_facts(facts, int(path.name))
    return (facts, None) if damage is None else ({}, damage)


def _damage_on_disk(path: Path, name: str, facts: dict[str, Any]) -> str | None:
    try:
        return damage_of_item(name, _read_metrics(path) if name == METRICS else read_item(path / name), facts)
    except Exception as error:  # orbax raises anything here, bare Exception included
        return f"{name} cannot be read ({reason_of(error)})"


def read_item(path: Path) -> Any:
    """Returns an item on one device; tuples become lists, and named tuples become dicts.

    It is read as in `Checkpoints.restore_state`, so that an item that can be read here can be restored there.
    """
    path = path.resolve()
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=array_types())
    metadata = handler.metadata(path)
    tree = getattr(metadata, "tree", metadata)
    on_one = ocp.ArrayRestoreArgs(sharding=SingleDeviceSharding(jax.local_devices()[0]))
    with ocp.Checkpointer(handler) as checkpointer:
        return checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(restore_args=jax.tree.map(lambda _: on_one, tree))
        )


def _read_metrics(path: Path) -> dict[str, float]:
    """Returns the metrics that rank a checkpoint; empty for one that was not validated."""
    file = path / METRICS / METRICS
    return {name: float(value) for name, value in json.loads(file.read_bytes()).items()} if file.exists() else {}


def best_step(directory: Path, report: Callable[[str], None]) -> int | None:
    """Returns the step of the best checkpoint, or None; `report` takes a line for each with an unreadable metric."""
    scores = {}
    for step in steps_in(directory):
        damage = _damage_of_rank(directory / str(step))
        if damage is not None:
            report(f"warning: checkpoint {directory / str(step)} is damaged: {damage}; it is not counted as the best")
        elif metrics := ranked_by(_read_metrics(directory / str(step))):
            scores[step] = rank(metrics)
    return max(scores, key=lambda step: (scores[step], step), default=None)


def ranked_by(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the metric of a validation that ranks its checkpoint, by its name; empty if it has none."""
    return {name: float(metrics[name]) for name in [name for name in RANKS if name in metrics][:1]}


def rank(metrics: Mapping[str, float]) -> float:
    """Returns the number that ranks a checkpoint, larger for a better one; minus infinity without a validation."""
    return next((RANKS[name] * value for name, value in ranked_by(metrics).items()), float("-inf"))


def _damage_of_rank(path: Path) -> str | None:
    facts, damage = _read_facts(path)
    return damage or _damage_on_disk(path, METRICS, facts)


def newest_whole(directory: Path, report: Callable[[str], None]) -> int | None:
    """Returns the newest step with an undamaged checkpoint, or None; `report` takes a line for each damaged one."""
    for step in reversed(steps_in(directory)):
        found = inspect(directory, step)
        if found.damage is None:
            return step
        report(f"warning: checkpoint {directory / str(step)} is damaged: {found.damage}; using the one before it")
    return None


def set_damaged_aside(directory: Path, report: Callable[[str], None]) -> None:
    """Moves damaged checkpoints that are newer than every undamaged one aside; training will make them again.

    Older ones whose metric cannot be read are moved too, because orbax cannot open a folder that has one.
    """
    whole = newest_whole(directory, report)
    steps = steps_in(directory)
    damaged = [step for step in steps if whole is None or step > whole or _damage_of_rank(directory / str(step))]
    wait_for_all("checkpoints inspected")  # do not move what another process is still reading
    for step in damaged if is_first() else ():
        aside = directory / f"{DAMAGED}{step}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            (directory / str(step)).rename(aside)
        except OSError as error:
            raise InputError(
                f"damaged checkpoint {directory / str(step)} cannot be moved to {aside} ({error}); "
                "expected a writable folder"
            ) from error
        report(f"warning: the damaged checkpoint is kept as {aside}; delete it when you do not need it")
    wait_for_all("damaged checkpoints moved")


def reason_of(error: Exception) -> str:
    """Returns the kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
