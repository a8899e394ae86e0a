"""The document `evaluation.json` (schema 1) as a pure function of records; numpy only.

Every number is a fraction, never a percentage.  docs/metrics.md defines each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.held_out import check_held_out, check_same_network
from mixup_jax.evaluation.recalibration import (
    Recalibration,
    check_posthoc,
    fit_recalibration,
    isotonic_confidence,
    vector_scaled,
)
from mixup_jax.evaluation.separation import measure_ood, separate
from mixup_jax.metrics.examples import Examples
from mixup_jax.metrics.logits import UNLABELLED
from mixup_jax.metrics.scores import Bools, Floats
from mixup_jax.runs.records import Predictions

__all__ = ["BIN_COUNTS", "COVERAGES", "SCHEMA", "evaluate_records", "measure", "measure_ood"]

SCHEMA = 1
BIN_COUNTS = (15, 100)
"""15 as most of the literature, 100 as the authors of the mixup paper used."""
COVERAGES = (0.5, 0.8, 0.9, 0.95)
CHEAP_INTERVALS = (
    "confidence_minus_accuracy",
    "mce",
    "ece_l2",
    "ece_over",
    "ece_under",
    "debiased_ece_l1",
    "debiased_ece_l2",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
)
DEAR_INTERVALS = ("adaptive_ece", "smooth_ece")
"""Their resamples take seconds for 10,000 examples, so they are made when asked for."""
NOTHING_FITTED = Recalibration(None, None)


def measure(
    predictions: Predictions,
    temperature: float | None = None,
    recalibration: Recalibration = NOTHING_FITTED,
    *,
    all_intervals: bool = False,
) -> dict[str, Any]:
    """Returns one entry of `results`: how accurate and how calibrated the predictions are.

    Args:
      predictions: unlabelled examples (-1) are left out and counted.
      temperature: fitted on other data; None where there is none.
      recalibration: other methods that were fitted on other data.
      all_intervals: also those of adaptive_ece_15, smooth_ece, classwise_ece_15, tace_15 and the selective
        numbers, which take seconds.

    Returns:
      n, accuracy, nll, brier, ece_15, ece_100, oe_15, oe_100, mce_15, mean_confidence,
      confidence_minus_accuracy, more calibration errors (see `_more_calibration`), aurc, e_aurc,
      `accuracy_at_coverage`: {"0.5": ..} for each of COVERAGES; `classwise_ece_15` and `tace_15`;
      `accuracy_top5`, of more than five classes;
      `intervals`: {name: [low, high]}, 95 %, for most of them; `noise_floor`: {"ece_15": {"mean", "p95"},
      "ece_100": ..}; `unlabelled`, how many were left out; `temperature`; `after_temperature`, the same numbers
      for logits / temperature (class-wise ones without intervals), None without a temperature, as that is; and
      `posthoc`, {method: the numbers of the top label after it}, for isotonic regression without nll, brier
      and the selective ones.  `nll` is None where it is infinite (JSON has no infinity): the true class of
      some example was declared impossible.

    Raises:
      InputError: no example has a label, or the temperature is not a finite number above 0.
    """
    _labelled(predictions, predictions.name or "of predictions")
    return _entry(predictions, _examined(predictions, temperature), temperature, recalibration, all_intervals)


def _examined(predictions: Predictions, temperature: float | None) -> list[Examples]:
    """Returns the examples as they are and, if there is a temperature, after it."""
    scales = [1.0] if temperature is None else [1.0, temperature]
    return [metrics.examine(predictions.logits, predictions.labels, scale) for scale in scales]


def _entry(
    predictions: Predictions,
    examples: list[Examples],
    temperature: float | None,
    recalibration: Recalibration,
    all_intervals: bool,
) -> dict[str, Any]:
    raw = examples[0].only_labelled()
    posthoc = {}
    if recalibration.vector_scaling is not None:
        posthoc["vector_scaling"] = _calibration(
            vector_scaled(predictions, recalibration.vector_scaling), all_intervals
        )
    if recalibration.isotonic is not None:
        confidence = isotonic_confidence(raw, recalibration.isotonic)
        posthoc["isotonic"] = _top_label(confidence, raw.correct, all_intervals=all_intervals)
    entry, known = _calibration(raw, all_intervals), _labelled(predictions, predictions.name)
    scaled = None
    if temperature is not None:
        scaled = {**_calibration(examples[1], all_intervals), **_every_class(known, temperature)}
    return {
        **entry,
        **_every_class(known),
        **_top_5(known),
        "intervals": entry["intervals"] | (_every_class_intervals(known) if all_intervals else {}),
        "unlabelled": len(examples[0]) - len(raw),
        "temperature": temperature,
        "after_temperature": scaled,
        "posthoc": posthoc,
    }


def _top_5(known: Predictions) -> dict[str, float]:
    """Returns the accuracy among the five most probable classes, where there are more than five."""
    if known.logits.shape[1] <= 5:
        return {}
    return {"accuracy_top5": metrics.top_k_accuracy(known.logits, known.labels, 5)}


def _every_class(known: Predictions, temperature: float = 1.0) -> dict[str, float]:
    """Returns the calibration errors of the full vector of probabilities."""
    return {
        "classwise_ece_15": metrics.classwise_ece(known.logits, known.labels, 15, temperature=temperature),
        "tace_15": metrics.tace(known.logits, known.labels, 15, temperature=temperature),
    }


def _every_class_intervals(known: Predictions) -> dict[str, list[float]]:
    tace = metrics.bootstrap_interval_of(metrics.tace, (known.logits, known.labels))
    return {
        "classwise_ece_15": list(metrics.bootstrap_classwise_ece(known.logits, known.labels, 15)),
        "tace_15": [max(tace.low, 0.0), min(tace.high, 1.0)],
    }


def _labelled(predictions: Predictions, name: str) -> Predictions:
    """Returns the labelled examples of a record: the record itself, uncopied, if all are."""
    has_label = predictions.labels != UNLABELLED
    if not has_label.any():
        raise InputError(
            f"record {name} has no labels (all {len(has_label)} are -1); "
            "expected at least one labelled example to measure accuracy and calibration"
        )
    if has_label.all():
        return predictions
    return Predictions(predictions.logits[has_label], predictions.labels[has_label], predictions.meta)


def _calibration(examples: Examples, all_intervals: bool) -> dict[str, Any]:
    known = examples.only_labelled()
    tally = metrics.tally_examples(known, n_bins=())
    proper = {"nll": tally.nll if math.isfinite(tally.nll) else None, "brier": tally.brier}
    selective = {
        "aurc": metrics.aurc(known.msp, known.correct),
        "e_aurc": metrics.e_aurc(known.msp, known.correct),
        "accuracy_at_coverage": {
            str(coverage): metrics.accuracy_at_coverage(known.msp, known.correct, coverage) for coverage in COVERAGES
        },
    }
    bounds = _selective_intervals(known) if all_intervals else {}
    losses = {"brier": known.brier, "brier_top_label": np.square(known.confidence - known.correct)} | (
        {"nll": -known.log_likelihood} if math.isfinite(tally.nll) else {}
    )
    numbers = _top_label(known.confidence, known.correct, proper, selective, losses, all_intervals)
    return numbers | {"intervals": numbers["intervals"] | bounds}


def _selective_intervals(known: Examples) -> dict[str, list[float]]:
    return {
        name: list(metrics.bootstrap_interval_of(statistic, (known.msp, known.correct)))
        for name, statistic in (("aurc", metrics.aurc), ("e_aurc", metrics.e_aurc))
    }


def _top_label(
    confidence: Floats,
    correct: Bools,
    proper: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    losses: Mapping[str, Floats] | None = None,
    all_intervals: bool = False,
) -> dict[str, Any]:
    """Returns the numbers of confidence and correctness, with others where a reader expects them."""
    coarse, fine = (metrics.bin_confidences(confidence, correct, bins) for bins in BIN_COUNTS)
    numbers: dict[str, Any] = {
        "n": len(correct),
        "accuracy": float(correct.mean()),
        **(proper or {}),
        "ece_15": metrics.ece(coarse),
        "ece_100": metrics.ece(fine),
        "oe_15": metrics.oe(coarse),
        "oe_100": metrics.oe(fine),
        "mce_15": metrics.mce(coarse),
        "mean_confidence": float(confidence.mean()),
        "confidence_minus_accuracy": metrics.confidence_minus_accuracy(coarse),
        **_more_calibration(confidence, correct, coarse),
        **(more or {}),
    }
    names = CHEAP_INTERVALS + (DEAR_INTERVALS if all_intervals else ())
    intervals = metrics.bootstrap_intervals(confidence, correct, BIN_COUNTS)
    intervals |= metrics.bootstrap_intervals(confidence, correct, (15,), names, losses=losses)
    return {
        **numbers,
        # Sums in another order differ in the last digit; a figure must not find a number outside its interval.
        "intervals": {
            name: [min(low, numbers[name]), max(high, numbers[name])] for name, (low, high) in intervals.items()
        },
        "noise_floor": {f"ece_{bins}": metrics.noise_floor(confidence, bins)._asdict() for bins in BIN_COUNTS},
    }


def _more_calibration(confidence: Floats, correct: Bools, bins: metrics.Bins) -> dict[str, float]:
    """Returns further errors of the top label; docs/metrics.md says what each is for."""
    over, under = metrics.ece_direction(bins)
    parts = metrics.brier_decomposition(confidence, correct, bins.n_bins)._asdict()
    return {
        "ece_over_15": over,
        "ece_under_15": under,
        "ece_l2_15": metrics.ece(bins, "l2"),
        "debiased_ece_l1_15": metrics.debiased_ece(bins, "l1"),
        "debiased_ece_l2_15": metrics.debiased_ece(bins, "l2"),
        "adaptive_ece_15": metrics.adaptive_ece(confidence, correct, bins.n_bins),
        "smooth_ece": metrics.smooth_ece(confidence, correct),
        # The event is "the prediction is right": its Brier score is not the `brier` of all classes.
        "brier_top_label": parts.pop("brier"),
        **{f"brier_{part}_15": value for part, value in parts.items()},
    }


def evaluate_records(
    test: Predictions,
    *,
    validation: Predictions | None = None,
    ood: Mapping[str, Predictions] | None = None,
    step: int | None = None,
    config: Mapping[str, Any] | None = None,
    test_name: str = "test",
    validation_name: str = "validation",
    posthoc: Sequence[str] = (),
    all_intervals: bool = False,
) -> dict[str, Any]:
    """Returns the whole document of `evaluation.json` for the records of one network.

    Args:
      test: the record to report.
      validation: the record the temperature is fitted on (and which is reported too); without it no
        temperature is fitted.
      ood: out-of-distribution records by name.  One whose meta has `shift_of` holds the test examples of that data
        set under a shift: its labels count, and it is measured like the test record as well.
      step: of the checkpoint; None takes it from the test record's meta, if it is there.
      config: of the run; None takes it from the test record's meta, if it is there.
      test_name: key of the test record where its meta does not name it.
      validation_name: key of the validation record where its meta does not name it.
      posthoc: methods to fit on the validation record besides the temperature: "vector_scaling", "isotonic".
      all_intervals: as for `measure`.

    Returns:
      {"schema", "step", "config", "temperature_fitted_on" (a key of results, or None), "posthoc": {method:
      what was fitted}, "results": {name: as `measure`}, "ood": {name: as `measure_ood`}}; JSON-serialisable if step
      and config are.

    Raises:
      InputError: the validation record is the test record, or of the same split; the records differ in
        classes, step or config, so they are not of one network; test or validation has no labels.
    """
    ood = ood or {}
    test_name = test.name or test_name
    _labelled(test, test_name)  # refused before the work, and by the name its reader knows
    for name, record in ood.items():
        check_same_network(f"out-of-distribution record {name}", record, test)
    check_posthoc(posthoc)
    if posthoc and validation is None:
        raise InputError(f"post-hoc method {posthoc[0]} has no validation record; expected one, it is never the test's")
    temperature, recalibration = None, NOTHING_FITTED
    results = {}
    if validation is not None:
        validation_name = validation.name or validation_name
        check_held_out(validation, validation_name, test, test_name)
        if validation_name == test_name:  # two records that name their data set and not their split
            validation_name = f"{validation_name} (validation)"
        fitted_on = _labelled(validation, validation_name)
        temperature = metrics.fit_temperature(fitted_on.logits, fitted_on.labels)
        examples = _examined(validation, temperature)
        recalibration = fit_recalibration(fitted_on, examples[0].only_labelled(), posthoc)
        results[validation_name] = _entry(validation, examples, temperature, recalibration, all_intervals)
    for name, record in ood.items():
        if record.meta.get("shift_of"):
            _labelled(record, record.name or name)
            examples = _examined(record, temperature)
            results[record.name or name] = _entry(record, examples, temperature, recalibration, all_intervals)
    tested = _examined(test, temperature)
    return {
        "schema": SCHEMA,
        "step": test.meta.get("step") if step is None else step,
        "config": test.meta.get("config") if config is None else dict(config),
        "temperature_fitted_on": None if validation is None else validation_name,
        "posthoc": recalibration.as_json(),
        "results": {test_name: _entry(test, tested, temperature, recalibration, all_intervals), **results},
        "ood": {
            name: separate(tested, _examined(record, temperature), temperature, all_intervals=all_intervals)
            for name, record in ood.items()
        },
    }
