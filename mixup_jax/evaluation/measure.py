"""The document `evaluation.json` (schema 1) as a pure function of records; numpy only.

Every number is a fraction, never a percentage.  docs/metrics.md defines each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics.scores import Floats, Ints
from mixup_jax.records import UNLABELLED, Predictions

SCHEMA = 1
BIN_COUNTS = (15, 100)
"""15 as most of the literature, 100 as the authors of the mixup paper used."""


def measure(predictions: Predictions, temperature: float | None = None) -> dict[str, Any]:
    """Returns one entry of `results`: how accurate and how calibrated the predictions are.

    Args:
      predictions: unlabelled examples (-1) are left out and counted.
      temperature: fitted on other data; None where there is none.

    Returns:
      n, accuracy, nll, brier, ece_15, ece_100, oe_15, oe_100, mce_15, mean_confidence,
      confidence_minus_accuracy; `intervals`: {name: [low, high]}, 95 %, for accuracy, ECE and OE;
      `noise_floor`: {"ece_15": {"mean", "p95"}, "ece_100": ..}; `unlabelled`, how many were left out;
      `temperature`; and `after_temperature`, everything up to the noise floor for logits /
      temperature.  The last two are None without a temperature.  `nll` is None where it is infinite
      (JSON has no infinity): the true class of some example was declared impossible.

    Raises:
      InputError: no example has a label, or the temperature is not a finite number above 0.
    """
    logits, labels = _labelled(predictions, predictions.name or "of predictions")
    return {
        **_calibration(logits, labels),
        "unlabelled": len(predictions.labels) - len(labels),
        "temperature": temperature,
        "after_temperature": None if temperature is None else _calibration(metrics.scale(logits, temperature), labels),
    }


def _labelled(predictions: Predictions, name: str) -> tuple[Floats, Ints]:
    has_label = predictions.labels != UNLABELLED
    if not has_label.any():
        raise InputError(
            f"record {name} has no labels (all {len(has_label)} are -1); "
            "expected at least one labelled example to measure accuracy and calibration"
        )
    return predictions.logits[has_label].astype(np.float64), predictions.labels[has_label].astype(np.int64)


def _calibration(logits: Floats, labels: Ints) -> dict[str, Any]:
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    coarse, fine = (metrics.bin_confidences(confidence, correct, bins) for bins in BIN_COUNTS)
    nll = metrics.nll(logits, labels)
    numbers: dict[str, Any] = {
        "n": len(labels),
        "accuracy": float(correct.mean()),
        "nll": nll if math.isfinite(nll) else None,
        "brier": metrics.brier(logits, labels),
        "ece_15": metrics.ece(coarse),
        "ece_100": metrics.ece(fine),
        "oe_15": metrics.oe(coarse),
        "oe_100": metrics.oe(fine),
        "mce_15": metrics.mce(coarse),
        "mean_confidence": float(confidence.mean()),
        "confidence_minus_accuracy": metrics.confidence_minus_accuracy(coarse),
    }
    intervals = metrics.bootstrap_intervals(confidence, correct, BIN_COUNTS)
    return {
        **numbers,
        # Sums in another order differ in the last digit; a figure must not find a number outside its interval.
        "intervals": {
            name: [min(low, numbers[name]), max(high, numbers[name])] for name, (low, high) in intervals.items()
        },
        "noise_floor": {f"ece_{bins}": metrics.noise_floor(confidence, bins)._asdict() for bins in BIN_COUNTS},
    }


def measure_ood(
    in_distribution: Predictions, out_of_distribution: Predictions, temperature: float | None = None
) -> dict[str, Any]:
    """Returns one entry of `ood`: how well the maximum softmax probability tells the two sets apart.

    Args:
      in_distribution: every example counts, labelled or not.
      out_of_distribution: labels are ignored.
      temperature: fitted on in-distribution validation data; None where there is none.

    Returns:
      score ("msp"), n_in, n_out, auroc, aupr_in, aupr_out, fpr95_ood, fpr95_id, mean_confidence (of the
      OOD set); `temperature`; and `after_temperature`, the keys before it for logits / temperature.
      The last two are None without a temperature.

    Raises:
      InputError: the records have different numbers of classes, or the temperature is out of range.
    """
    _check_classes("out-of-distribution", out_of_distribution, in_distribution)
    logits_in, logits_out = in_distribution.logits, out_of_distribution.logits
    return {
        **_separation(logits_in, logits_out),
        "temperature": temperature,
        "after_temperature": None
        if temperature is None
        else _separation(metrics.scale(logits_in, temperature), metrics.scale(logits_out, temperature)),
    }


def _separation(logits_in: np.ndarray, logits_out: np.ndarray) -> dict[str, Any]:
    score_in, score_out = metrics.msp_score(logits_in), metrics.msp_score(logits_out)
    return {
        "score": "msp",
        "n_in": len(score_in),
        "n_out": len(score_out),
        "auroc": metrics.auroc(score_in, score_out),
        "aupr_in": metrics.aupr_in(score_in, score_out),
        "aupr_out": metrics.aupr_out(score_in, score_out),
        "fpr95_ood": metrics.fpr95_ood(score_in, score_out),
        "fpr95_id": metrics.fpr95_id(score_in, score_out),
        "mean_confidence": float(metrics.max_probability(logits_out).mean()),
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
) -> dict[str, Any]:
    """Returns the whole document of `evaluation.json` for the records of one network.

    Args:
      test: the record to report.
      validation: the record the temperature is fitted on (and which is reported too); without it no
        temperature is fitted.
      ood: out-of-distribution records by name.
      step: of the checkpoint; None takes it from the test record's meta, if it is there.
      config: of the run; None takes it from the test record's meta, if it is there.
      test_name: key of the test record where its meta does not name it.
      validation_name: key of the validation record where its meta does not name it.

    Returns:
      {"schema", "step", "config", "temperature_fitted_on" (a key of results, or None), "results": {name:
      as `measure`}, "ood": {name: as `measure_ood`}}; JSON-serialisable if step and config are.

    Raises:
      InputError: the validation record is the test record, or of the same split; the records differ in
        classes, step or config, so they are not of one network; test or validation has no labels.
    """
    ood = ood or {}
    test_name = test.name or test_name
    _labelled(test, test_name)  # refused before the work, and by the name its reader knows
    for name, record in ood.items():
        _check_same_network(f"out-of-distribution record {name}", record, test)
    temperature = None
    results = {}
    if validation is not None:
        validation_name = validation.name or validation_name
        _check_held_out(validation, validation_name, test, test_name)
        temperature = metrics.fit_temperature(*_labelled(validation, validation_name))
        results[validation_name] = measure(validation, temperature)
    return {
        "schema": SCHEMA,
        "step": test.meta.get("step") if step is None else step,
        "config": test.meta.get("config") if config is None else dict(config),
        "temperature_fitted_on": None if validation is None else validation_name,
        "results": {test_name: measure(test, temperature), **results},
        "ood": {name: measure_ood(test, record, temperature) for name, record in ood.items()},
    }


def _check_held_out(validation: Predictions, validation_name: str, test: Predictions, test_name: str) -> None:
    _check_same_network(f"validation record {validation_name}", validation, test)
    identical = np.array_equal(validation.logits, test.logits) and np.array_equal(validation.labels, test.labels)
    if identical or validation_name == test_name:
        raise InputError(
            f"validation record {validation_name} is the test record; "
            "expected other data, since a temperature fitted on the test set would flatter it"
        )


def _check_same_network(what: str, record: Predictions, test: Predictions) -> None:
    _check_classes(what, record, test)
    for key in ("step", "config"):
        ours, theirs = test.meta.get(key), record.meta.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            found = f"{theirs} instead of {ours}" if key == "step" else "another one"
            raise InputError(f"{what} has {key} {found}; expected predictions of the same network as the test record")


def _check_classes(what: str, record: Predictions, test: Predictions) -> None:
    if record.logits.shape[1] != test.logits.shape[1]:
        raise InputError(
            f"{what} has {record.logits.shape[1]} classes; "
            f"expected {test.logits.shape[1]}, as the in-distribution record has"
        )
