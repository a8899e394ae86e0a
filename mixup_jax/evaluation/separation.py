"""One entry of `ood` in evaluation.json: how well scores of logits tell two data sets apart; numpy only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics.examples import Examples
from mixup_jax.metrics.scores import Floats
from mixup_jax.runs.records import Predictions

BOOTSTRAPPED = ("aupr_in", "aupr_out", "fpr95_ood", "fpr95_id")
SCORES = ("entropy", "energy", "max_logit")
"""What `scores` of an entry holds; the entry itself is that of the maximum softmax probability, msp."""


def measure_ood(
    in_distribution: Predictions, out_of_distribution: Predictions, temperature: float | None = None
) -> dict[str, Any]:
    """Returns one entry of `ood`: how well scores of the logits tell the two sets apart.

    Args:
      in_distribution: every example counts, labelled or not.
      out_of_distribution: labels are ignored.
      temperature: fitted on in-distribution validation data; None where there is none.

    Returns:
      score ("msp"), n_in, n_out, auroc, aupr_in, aupr_out, fpr95_ood, fpr95_id, mean_confidence (of the
      OOD set), `intervals`: {"auroc": [low, high]}, 95 %; `scores`: the numbers from auroc to fpr95_id, the mean
      score of each set (None where infinite) and intervals for each of SCORES; `temperature`; and
      `after_temperature`, the keys before it for logits / temperature.  The last two are None without one.

    Raises:
      InputError: the records have different numbers of classes, or the temperature is out of range.
    """
    check_classes("out-of-distribution", out_of_distribution, in_distribution)
    pairs = [
        (
            metrics.examine(in_distribution.logits, temperature=t),
            metrics.examine(out_of_distribution.logits, temperature=t),
        )
        for t in (1.0, temperature)
        if t is not None
    ]
    return separate([inside for inside, _ in pairs], [outside for _, outside in pairs], temperature)


def separate(
    inside: list[Examples], outside: list[Examples], temperature: float | None, *, all_intervals: bool = False
) -> dict[str, Any]:
    """Returns what `measure_ood` does, from examples as they are and (if there is a temperature) after it.

    `all_intervals` adds bootstrap intervals of AUPR and FPR95, which take seconds for each score.
    """
    entries = [_separation(*pair, all_intervals) for pair in zip(inside, outside, strict=True)]
    return {**entries[0], "temperature": temperature, "after_temperature": None if temperature is None else entries[1]}


def _separation(inside: Examples, outside: Examples, all_intervals: bool) -> dict[str, Any]:
    msp = by_score(inside.msp, outside.msp, all_intervals)
    intervals = msp.pop("intervals")  # they stand after the numbers
    return {
        "score": "msp",
        "n_in": len(inside),
        "n_out": len(outside),
        **msp,
        "mean_confidence": float(outside.confidence.mean()),
        "intervals": intervals,
        "scores": {name: _with_means(getattr(inside, name), getattr(outside, name), all_intervals) for name in SCORES},
    }


def _with_means(score_in: Floats, score_out: Floats, all_intervals: bool) -> dict[str, Any]:
    means = [float(score.mean()) for score in (score_in, score_out)]
    mean_in, mean_out = (mean if math.isfinite(mean) else None for mean in means)
    return {**by_score(score_in, score_out, all_intervals), "mean_in": mean_in, "mean_out": mean_out}


def by_score(score_in: Floats, score_out: Floats, all_intervals: bool = False) -> dict[str, Any]:
    """Returns `rank_metrics` and `intervals` for one score (higher = more foreign): of AUROC, or of all of them."""
    intervals = {"auroc": list(metrics.auroc_interval(score_in, score_out))}
    for name in BOOTSTRAPPED if all_intervals else ():
        interval = metrics.bootstrap_interval_of(getattr(metrics, name), (score_in,), (score_out,))
        intervals[name] = [max(interval.low, 0.0), min(interval.high, 1.0)]
    return {**rank_metrics(score_in, score_out), "intervals": intervals}


def rank_metrics(score_in: Floats, score_out: Floats) -> dict[str, float]:
    """Returns AUROC, AUPR and FPR95 both ways for one score (higher = more foreign)."""
    # Sorted once here: sorting what is sorted costs each metric little.
    ascending = np.sort(score_in), np.sort(score_out)
    return {
        "auroc": metrics.auroc(*ascending),
        "aupr_in": metrics.aupr_in(*ascending),
        "aupr_out": metrics.aupr_out(*ascending),
        "fpr95_ood": metrics.fpr95_ood(*ascending),
        "fpr95_id": metrics.fpr95_id(*ascending),
    }


def check_classes(what: str, record: Predictions, test: Predictions) -> None:
    """Raises InputError if a record has another number of classes than the test record."""
    if record.logits.shape[1] != test.logits.shape[1]:
        raise InputError(
            f"{what} has {record.logits.shape[1]} classes; "
            f"expected {test.logits.shape[1]}, as the in-distribution record has"
        )
