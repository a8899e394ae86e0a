"""Several records of the same examples as one: an ensemble, or samples of Monte Carlo dropout."""

from collections.abc import Sequence

import numpy as np

from mixup_jax.errors import InputError
from mixup_jax.metrics.analyses import Disagreement
from mixup_jax.metrics.logits import blocks
from mixup_jax.metrics.softmax import Floats, log_softmax
from mixup_jax.runs.records import Predictions


def mean_of_records(records: Sequence[Predictions]) -> Predictions:
    """Returns the record of the mean of the members' probabilities, `log(1/M sum_m softmax(z_m))`.

    It is computed in the log domain, so that no probability underflows.  The resulting logits are log-probabilities:
    MSP and entropy are those of the mean, but energy and max logit are meaningless.

    Returns:
      float64 logits, held in memory; meta: what all members agree on (but no `step`), `members`, M, and
      `ensemble`, the `ensemble_disagreement` of more than one.
    """
    if not records:
        raise InputError("an ensemble of 0 records; expected at least one")
    first = records[0]
    for number, record in enumerate(records[1:], start=2):
        if record.logits.shape != first.logits.shape or not np.array_equal(record.labels, first.labels):
            raise InputError(
                f"member {number} of the ensemble has other examples than member 1 (logits {list(record.logits.shape)} "
                f"and {list(first.logits.shape)}, or other labels); expected the same ones in the same order"
            )
    shared = {
        key: value
        for key, value in first.meta.items()
        if key != "step" and all(record.meta.get(key) == value for record in records)
    }
    logits: Floats = np.empty(first.logits.shape)
    differences = Disagreement()
    for rows in blocks(*first.logits.shape):
        members = np.stack([log_softmax(record.logits[rows]) for record in records])
        logits[rows] = _log_mean(members)
        if len(records) > 1:
            differences.add(members)
    meta = {**shared, "members": len(records)}
    if len(records) > 1:
        meta["ensemble"] = differences.means()
    return Predictions(logits, first.labels, meta, groups=first.groups)


def _log_mean(log_probabilities: Floats) -> Floats:
    """Returns log(mean(exp(.))) over the first axis; -inf where it is -inf for every member."""
    largest = log_probabilities.max(axis=0)
    offset = np.where(np.isneginf(largest), 0.0, largest)
    with np.errstate(divide="ignore"):
        mean: Floats = np.log(np.exp(log_probabilities - offset).mean(axis=0)) + offset
    return mean
