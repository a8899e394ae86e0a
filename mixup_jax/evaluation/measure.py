"""The document `evaluation.json` (schema 1) as a pure function of records; numpy only.

Every number is a fraction, never a percentage.  docs/metrics.md defines each of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.by_image import counts_by_image, intervals_by_image, without_intervals
from mixup_jax.evaluation.checks import check_held_out, check_same_network, shared_rows
from mixup_jax.evaluation.extras import Material, check_extras, extras_of
from mixup_jax.evaluation.ood import FeatureScores, check_features, check_near, group_entry, on_request, ood_entry
from mixup_jax.evaluation.recalibration import (
    POSTHOC,
    Recalibration,
    check_posthoc,
    fit_recalibration,
    recalibrated,
)
from mixup_jax.metrics import table
from mixup_jax.metrics.examined import Examined
from mixup_jax.metrics.logits import UNLABELLED
from mixup_jax.metrics.measuring import Given, full_vector, intervals, top_label
from mixup_jax.metrics.temperature import COLDEST, HOTTEST
from mixup_jax.runs.records import ROWS_BY_IMAGE, Predictions

SCHEMA = 1
NOTHING_FITTED = Recalibration({})


def examined(predictions: Predictions, temperature: float | None) -> list[Examined]:
    """Returns the examples without temperature scaling and, if there is a temperature, also with it."""
    scales = [1.0] if temperature is None else [1.0, temperature]
    return [metrics.examine(predictions.logits, predictions.labels, scale) for scale in scales]


def result_entry(
    predictions: Predictions,
    examples: list[Examined],
    temperature: float | None,
    recalibration: Recalibration = NOTHING_FITTED,
    all_intervals: bool = False,
) -> dict[str, Any]:
    """Returns one entry of `results`: how accurate and how calibrated predictions are, which were `examined`.

    Returns:
      `n`; the numbers of `metrics.table.METRICS` by their keys; `intervals`: {key: [low, high]}, 95 %;
      `noise_floor`: {key: {"mean", "p95"}}; `unlabelled`, how many examples were left out; `temperature`;
      `after_temperature`, the same numbers for logits / temperature, None without one; and `posthoc`, {method: the
      numbers that are defined after it}; of pixels also `images`, {"n", "fewest", "mean", "most"} examples.
      docs/evaluation-json.md describes each.
    """
    raw, known = examples[0].only_labelled(), _labelled(predictions, predictions.name)
    posthoc = {}
    for name, fit in recalibration.fits.items():
        if POSTHOC[name].of_logits:
            posthoc[name] = _top_label(recalibrated(known, fit), all_intervals)
        else:
            given = Given({"confidence": fit.apply(raw.confidence), "correct": raw.correct})
            posthoc[name] = top_label(given, slow=all_intervals)
    entry = _top_label(raw, all_intervals)
    given, numbers = full_vector(known.logits, known.labels)
    entry["intervals"] |= intervals(given, table.METRICS, numbers, slow=all_intervals)
    scaled = None
    if temperature is not None:
        _, of_classes = full_vector(known.logits, known.labels, temperature)
        scaled = _top_label(examples[1].only_labelled(), all_intervals) | table.nested(of_classes)
    found = {
        **entry,
        **table.nested(numbers),
        "unlabelled": len(examples[0]) - len(raw),
        "temperature": temperature,
        "after_temperature": scaled,
        "posthoc": posthoc,
        **_of_ensemble(predictions.meta.get("ensemble")),
    }
    return found if ROWS_BY_IMAGE not in predictions.meta else _of_images(found, predictions, examples)


def _of_images(entry: dict[str, Any], predictions: Predictions, examples: list[Examined]) -> dict[str, Any]:
    """Returns an entry of examples that are parts of images, with intervals of resampled images and no others."""
    rows = predictions.meta[ROWS_BY_IMAGE]
    entry = without_intervals(entry) | {"images": counts_by_image(rows, examples[0])}
    for side, of_side in zip([entry, entry["after_temperature"]], examples, strict=False):
        side["intervals"] = intervals_by_image(rows, of_side)
    return entry


def _of_ensemble(differences: Any) -> dict[str, Any]:
    """Returns `ensemble`, how much the members of a mean of records differ, if its meta says so."""
    if not isinstance(differences, Mapping):
        return {}
    numbers = {key: differences.get(key) for key in ("mutual_information", "disagreement")}
    return {"ensemble": numbers} if all(isinstance(number, float) for number in numbers.values()) else {}


def _top_label(known: Examined, all_intervals: bool) -> dict[str, Any]:
    return top_label(Given(vars(known)), slow=all_intervals)


def _labelled(predictions: Predictions, name: str) -> Predictions:
    """Returns the labelled examples of a record; the record itself, without a copy, if all are labelled."""
    has_label = predictions.labels != UNLABELLED
    if not has_label.any():
        raise InputError(
            f"record {name} has no labels (all {len(has_label)} are -1); "
            "expected at least one labelled example to measure accuracy and calibration"
        )
    if has_label.all():
        return predictions
    groups = None if predictions.groups is None else predictions.groups[has_label]
    return Predictions(predictions.logits[has_label], predictions.labels[has_label], predictions.meta, groups=groups)


def _remarks_on_fit(temperature: float, fitted_on: Examined) -> dict[str, Any]:
    """Returns remarks about the fit of a temperature, or nothing if it is unremarkable."""
    left_out = int(np.isneginf(fitted_on.log_likelihood).sum())
    remarks: dict[str, Any] = {"left_out": left_out} if left_out else {}
    return remarks | ({"at_bound": temperature} if temperature in (COLDEST, HOTTEST) else {})


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
    extra: Sequence[str] = (),
    features: bool = False,
    near: Sequence[str] = (),
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
      test_name: key of the test record if its meta does not name it.
      validation_name: key of the validation record if its meta does not name it.
      posthoc: methods of `recalibration.POSTHOC` to fit on the validation record besides the temperature.
      extra: further analyses of `extras.EXTRAS`.
      features: also score by the features of the records; those of training are the test record's.
      near: names of out-of-distribution sets that are near the data; the others are far.  With any, `ood_groups` has
        the means of both.
      all_intervals: also the intervals that take seconds.

    Returns:
      {"schema", "step", "config", "temperature_fitted_on" (a key of results, or None), "posthoc": {method:
      what was fitted}, "results": {name: as `result_entry`}, "ood": {name: as `ood_entry`}}; JSON-serialisable if step
      and config are.

    Raises:
      InputError: the validation record is the test record, or of the same split; the records differ in
        classes, step or config, so they are not of one network; test or validation has no labels.
    """
    ood = ood or {}
    test_name = test.name or test_name
    _labelled(test, test_name)  # refuse it before any work, under the name that the user gave
    shared = {}
    for name, record in ood.items():
        check_same_network(f"out-of-distribution record {name}", record, test)
        shared[name], _ = shared_rows(record, test)
    if features:
        check_features(test, ood)
    check_near(near, list(ood))
    check_extras(extra, test, validated=validation is not None)
    check_posthoc(posthoc)
    if posthoc and validation is None:
        raise InputError(f"post-hoc method {posthoc[0]} has no validation record; expected one, it is never the test's")
    temperature, recalibration, fit = None, NOTHING_FITTED, {}
    results, fitted_on = {}, None

    def entry(record: Predictions, examples: list[Examined]) -> dict[str, Any]:
        made = result_entry(record, examples, temperature, recalibration, all_intervals)
        if extra:
            known = _labelled(record, record.name)
            material = Material(known, examples[0].only_labelled(), fitted_on, temperature)
            found = extras_of(extra, material, of_validation=record is validation)
            made["extra"] = without_intervals(found) if ROWS_BY_IMAGE in record.meta else found
        return made

    if validation is not None:
        validation_name = validation.name or validation_name
        shared[validation_name] = check_held_out(validation, validation_name, test, test_name)
        if validation_name == test_name:  # both records name their data set but not their split
            validation_name = f"{validation_name} (validation)"
        fitted_on = _labelled(validation, validation_name)
        temperature = metrics.fit_temperature(fitted_on.logits, fitted_on.labels)
        examples = examined(validation, temperature)
        recalibration = fit_recalibration(fitted_on, examples[0].only_labelled(), posthoc)
        fit = _remarks_on_fit(temperature, examples[0].only_labelled())
        results[validation_name] = entry(validation, examples)
    for name, record in ood.items():
        if record.meta.get("shift_of"):
            _labelled(record, record.name or name)
            own = record.name or name
            own = f"{own} ({name})" if own in (test_name, *results) else own  # two shifts, or a copy of the test's meta
            results[own] = entry(record, examined(record, temperature))
    tested = examined(test, temperature)
    results = {test_name: entry(test, tested), **results}
    by_features = FeatureScores(test) if features else None
    foreign = {
        name: ood_entry(
            tested,
            examined(record, temperature),
            temperature,
            all_intervals=all_intervals,
            further={**on_request(test, record, extra), **(by_features.pairs(record) if by_features else {})},
            missing=by_features.missing if by_features else {},
        )
        for name, record in ood.items()
    }
    shared = {name: count for name, count in shared.items() if count}
    # Pixels are not independent, and scores are not summed by image.
    of_pixels = without_intervals if ROWS_BY_IMAGE in test.meta else dict
    return {
        "schema": SCHEMA,
        "step": test.meta.get("step") if step is None else step,
        "config": test.meta.get("config") if config is None else dict(config),
        "temperature_fitted_on": None if validation is None else validation_name,
        "posthoc": recalibration.as_json(),
        **({"temperature_fit": fit} if fit else {}),
        **({"test_rows_in": shared} if shared else {}),
        "results": results,
        **({"features": {"size": by_features.size, "train_examples": by_features.examples}} if by_features else {}),
        "ood": {name: of_pixels(entry) for name, entry in foreign.items()},
        **({"ood_groups": group_entry(near, foreign)} if near else {}),
    }
