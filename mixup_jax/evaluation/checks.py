"""Which records may be evaluated together: of one network, and with a validation record of other examples."""

from __future__ import annotations

import numpy as np

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import blocks
from mixup_jax.runs.records import Predictions


def check_held_out(validation: Predictions, validation_name: str, test: Predictions, test_name: str) -> None:
    """Raises InputError if the validation record is the test record, in whatever order, or of another network."""
    check_same_network(f"validation record {validation_name}", validation, test)
    same_split = validation.meta.get("split") is not None and validation_name == test_name
    if same_split or _identical(validation, test) or _reordered(validation, test):
        raise InputError(
            f"validation record {validation_name} is the test record; "
            "expected other data, since a temperature fitted on the test set would flatter it"
        )


def _identical(record: Predictions, other: Predictions) -> bool:
    # A block at a time, because both may be files larger than memory; the first difference ends it.
    return np.array_equal(record.labels, other.labels) and all(
        np.array_equal(record.logits[rows], other.logits[rows]) for rows in blocks(*record.logits.shape)
    )


def _reordered(record: Predictions, other: Predictions) -> bool:
    """Whether one record holds the other's examples in another order."""
    if record.logits.shape != other.logits.shape:
        return False
    if not np.array_equal(np.sort(record.labels), np.sort(other.labels)):
        return False
    ours, theirs = (np.sort(metrics.max_logit_score(each.logits)) for each in (record, other))
    # A network that gives every image the same logits gives them to different images too.
    distinct = 1 + np.count_nonzero(np.diff(ours))
    return np.array_equal(ours, theirs) and bool(distinct > len(ours) / 2)


def check_same_network(what: str, record: Predictions, test: Predictions) -> None:
    """Raises InputError if a record cannot be of the network that the test record is of."""
    check_classes(what, record, test)
    for key in ("step", "config"):
        ours, theirs = test.meta.get(key), record.meta.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            found = f"{theirs} instead of {ours}" if key == "step" else "another one"
            raise InputError(f"{what} has {key} {found}; expected predictions of the same network as the test record")


def check_classes(what: str, record: Predictions, test: Predictions) -> None:
    """Raises InputError if a record has another number of classes than the test record."""
    if record.logits.shape[1] != test.logits.shape[1]:
        raise InputError(
            f"{what} has {record.logits.shape[1]} classes; "
            f"expected {test.logits.shape[1]}, as the in-distribution record has"
        )
