"""What proves that a checkpoint is what was saved: checksums of its items, kept in its facts.

Checksums are of values, not of files: they hold on any number of devices and however the storage
library lays its files out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mixup_jax.errors import InputError

FORMAT = 1
"""Of a checkpoint; raised when a version of this package could no longer read what the one before it wrote."""

CHECKSUMS, FORMAT_KEY, STEP_KEY = "checksums", "format", "step"


def checksum(tree: Any) -> str:
    """Returns the SHA-256 of a tree of arrays: of every leaf's name, dtype, shape and bytes, in the order of the names.

    A tuple, a list and a named tuple of the same leaves are told apart by the names of their fields
    only.  Arrays may be jax's or numpy's.
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


def sealed(facts: Mapping[str, Any], step: int, items: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts with the step and format of the checkpoint, and the checksums of its items and of themselves.

    Args:
      facts: JSON-serialisable, without NaN.
      step: of the checkpoint.
      items: trees of arrays by the name of their item.
    """
    facts = {**facts, STEP_KEY: step, FORMAT_KEY: FORMAT}
    sums = {name: checksum(tree) for name, tree in items.items()}
    return facts | {CHECKSUMS: sums | {"facts": _facts_checksum(facts)}}


def unsealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts as they were given to `sealed`."""
    return {name: value for name, value in facts.items() if name not in (CHECKSUMS, FORMAT_KEY, STEP_KEY)}


def check_format(facts: Mapping[str, Any], where: object) -> None:
    """Checks that this version of the package can read a checkpoint.  Those without a format are older and can be read.

    Raises:
      InputError: a newer version wrote it.
    """
    found = facts.get(FORMAT_KEY, 0)
    if not isinstance(found, int) or found > FORMAT:
        raise InputError(
            f"checkpoint {where} has format {found!r}, written by a newer mixup_jax; this one reads formats up to "
            f"{FORMAT}: install that version, or choose another --workdir"
        )


def damage_of_facts(facts: Any, step: int) -> str | None:
    """Returns what is wrong with facts as read under a step; None if they are whole, or older than checksums."""
    if not isinstance(facts, dict):
        return f"facts are a {type(facts).__name__}"
    if CHECKSUMS not in facts:
        return None if facts.get(FORMAT_KEY, 0) == 0 else "facts lack their checksums"
    if not isinstance(facts[CHECKSUMS], dict) or _facts_checksum(facts) != facts[CHECKSUMS].get("facts"):
        return "facts do not match their checksum"
    return None if facts.get(STEP_KEY, step) == step else f"it is that of step {facts[STEP_KEY]}"


def damage_of_item(name: str, tree: Any, facts: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with an item as read, by its checksum in the facts; None without one."""
    expected = facts.get(CHECKSUMS, {}).get(name)
    if expected is None or checksum(tree) == expected:
        return None
    return f"{name} does not match its checksum"


def _facts_checksum(facts: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in facts.items() if name != CHECKSUMS}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_state(state: Any, step: int) -> None:
    """Checks that a tree of arrays is finite throughout.

    Raises:
      InputError: it is not; the message names an array of it.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(state))
    for path, leaf in leaves:
        if not np.isfinite(leaf).all():
            raise InputError(
                f"{jax.tree_util.keystr(path, simple=True, separator='/')} holds NaN or infinity after step {step}; it "
                "is not saved, and the last checkpoint is good and kept. Suspects: optimizer.learning_rate, "
                "model.dtype, the data; or pass over such steps with --config.on_nan=skip"
            )
