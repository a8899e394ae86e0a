"""Whether evaluation.json says what the records beside it say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.separation import rank_metrics
from mixup_jax.metrics.examples import Examples
from mixup_jax.runs.files import key
from mixup_jax.runs.records import Predictions

TOLERANCE = 1e-7
"""How far a number in evaluation.json may be from the one recomputed; relative for numbers above 1."""

OPTIONAL = (
    *("aurc", "e_aurc", "adaptive_ece_15", "ece_l2_15", "debiased_ece_l2_15", "debiased_ece_l1_15"),
    *("ece_over_15", "ece_under_15", "brier_reliability_15", "brier_resolution_15", "brier_uncertainty_15"),
)
"""Numbers that an evaluation may lack."""

SCORES = ("entropy", "energy", "max_logit")
COVERAGES = ("0.5", "0.8", "0.9", "0.95")
AS_TRAINED = ""
STATES = (AS_TRAINED, "after_temperature")

Pair = tuple[str, float | None, float]
"""A number's name, what evaluation.json says and what the records give."""


def check_agreement(
    evaluation: Mapping[str, Any], test_name: str, test: Predictions, ood: Mapping[str, Predictions]
) -> None:
    """Recomputes the numbers of evaluation.json from the records.

    Of the test set as trained and after its temperature: n, accuracy, NLL, Brier score, ECE and OE at 15 and 100
    bins, MCE, mean confidence, confidence minus accuracy and, where it has them, the numbers of OPTIONAL and the
    accuracies of COVERAGES.  Of every out-of-distribution set: both n, the mean confidence and, by every score,
    AUROC, both AUPR and both FPR95.  Taken as they are: the temperature, intervals and noise floors, the smooth,
    class-wise and thresholded calibration errors.

    Args:
      evaluation: of the form that `checks` wants.
      test_name: the key of the test set in `evaluation["results"]`.
      test: its record.
      ood: those of the out-of-distribution sets.

    Raises:
      InputError: a number differs by more than 1e-7; the message names the key and both values.
    """
    for where, stored, computed in _pairs(evaluation, test_name, test, ood):
        if not _agree(stored, computed):
            raise InputError(f"{where} is {stored}, but the records beside it give {computed:.9g}")


def _agree(stored: float | None, computed: float) -> bool:
    # JSON has no infinity; null stands for it.
    if stored is None or not math.isfinite(computed):
        return stored is None and not math.isfinite(computed)
    return abs(stored - computed) <= TOLERANCE * max(1.0, abs(computed))


def _pairs(
    evaluation: Mapping[str, Any], test_name: str, test: Predictions, ood: Mapping[str, Predictions]
) -> Iterator[Pair]:
    written = evaluation["results"][test_name]
    for state in STATES:
        temperature = 1.0 if state == AS_TRAINED else written.get("temperature")
        result = written if state == AS_TRAINED else written.get(state)
        inside = None if temperature is None else metrics.examine(test.logits, test.labels, temperature)
        if result is not None and inside is not None:
            yield from _compared(_named("results", test_name, state), result, _test_numbers(inside))
        for name, record in ood.items():
            stored = evaluation["ood"][name]
            separation = stored if state == AS_TRAINED else stored.get(state)
            if separation is None:
                continue
            where = _named("ood", name, state)
            if inside is None:
                raise InputError(f"{where} is there, but {key('results', test_name)}.temperature is not")
            if state != AS_TRAINED:
                yield key(key("ood", name), "temperature"), stored.get("temperature"), float(temperature)
            outside = metrics.examine(record.logits, temperature=temperature)
            yield from _separations(where, separation, inside, outside)


def _named(part: str, name: str, state: str) -> str:
    return key(key(part, name), state) if state else key(part, name)


def _separations(where: str, entry: Mapping[str, Any], inside: Examples, outside: Examples) -> Iterator[Pair]:
    counts = {"n_in": len(inside), "n_out": len(outside), "mean_confidence": float(outside.confidence.mean())}
    yield from _compared(where, entry, {**counts, **rank_metrics(inside.msp, outside.msp)})
    for score in SCORES:
        stored = (entry.get("scores") or {}).get(score)
        if stored:
            computed = rank_metrics(getattr(inside, score), getattr(outside, score))
            yield from _compared(key(key(where, "scores"), score), stored, computed, optional=True)


def _compared(
    where: str, stored: Mapping[str, Any], computed: Mapping[str, Any], *, optional: bool = False
) -> Iterator[Pair]:
    for name, value in computed.items():
        if isinstance(value, dict):
            yield from _compared(key(where, name), stored.get(name) or {}, value, optional=True)
        elif not (stored.get(name) is None and (optional or name in OPTIONAL)):
            yield key(where, name), stored.get(name), value


def _test_numbers(examples: Examples) -> dict[str, Any]:
    known = examples.only_labelled()
    if not len(known):
        raise InputError("the record of the test set has no labels; expected at least one labelled example")
    tally = metrics.tally_examples(known, n_bins=(15, 100))
    coarse, fine = tally.bins
    over, under = metrics.ece_direction(coarse)
    return {
        "n": len(known),
        "accuracy": tally.accuracy,
        "nll": tally.nll,
        "brier": tally.brier,
        "ece_15": metrics.ece(coarse),
        "ece_100": metrics.ece(fine),
        "oe_15": metrics.oe(coarse),
        "oe_100": metrics.oe(fine),
        "mce_15": metrics.mce(coarse),
        "mean_confidence": tally.mean_confidence,
        "confidence_minus_accuracy": metrics.confidence_minus_accuracy(coarse),
        "ece_l2_15": metrics.ece(coarse, "l2"),
        "ece_over_15": over,
        "ece_under_15": under,
        "debiased_ece_l2_15": metrics.debiased_ece(coarse, "l2"),
        "debiased_ece_l1_15": metrics.debiased_ece(coarse, "l1"),
        **_of_confidences(known),
    }


def _of_confidences(known: Examples) -> dict[str, Any]:
    parts = metrics.brier_decomposition(known.confidence, known.correct, 15)
    return {
        "adaptive_ece_15": metrics.adaptive_ece(known.confidence, known.correct, 15),
        "brier_reliability_15": parts.reliability,
        "brier_resolution_15": parts.resolution,
        "brier_uncertainty_15": parts.uncertainty,
        "aurc": metrics.aurc(known.msp, known.correct),
        "e_aurc": metrics.e_aurc(known.msp, known.correct),
        "accuracy_at_coverage": {
            name: metrics.accuracy_at_coverage(known.msp, known.correct, float(name)) for name in COVERAGES
        },
    }
