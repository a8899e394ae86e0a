"""Analyses that an evaluation makes only on request, since they take time or many numbers: the table of `--extra`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.evaluation.recalibration import compared
from mixup_jax.metrics import table
from mixup_jax.metrics.analyses import by_group, calibration_test, refinement_parts
from mixup_jax.metrics.conformal import RULES, conformal_threshold, coverage_of, prediction_sets
from mixup_jax.metrics.examined import Examined
from mixup_jax.runs.records import ROWS_BY_IMAGE, Predictions

LEVEL = 0.9
SHIFTED = (
    "these examples are not exchangeable with the validation examples, so nothing guarantees the coverage; it is "
    "what was measured"
)


class Material(NamedTuple):
    """What an analysis of one record is made of.

    Attributes:
      record: its labelled examples.
      examples: what they were `examined` to be, without temperature scaling.
      validation: the labelled validation examples, None without them.
      temperature: fitted on these.
    """

    record: Predictions
    examples: Examined
    validation: Predictions | None
    temperature: float | None


class Extra(NamedTuple):
    """An analysis.

    Attributes:
      make: returns its numbers.
      content: what they are, for docs/evaluation-json.md.
      validated: whether it needs a validation record.
    """

    make: Callable[[Material], dict[str, Any]]
    content: str
    validated: bool = False


def _conformal(material: Material) -> dict[str, Any]:
    """Returns the coverage of conformal sets before and after temperature scaling."""
    assert material.validation is not None
    found: dict[str, Any] = {"level": LEVEL}
    if material.record.meta.get("shift_of"):
        found["warning"] = SHIFTED
    states = {"as_trained": 1.0} | ({"with_temperature": material.temperature} if material.temperature else {})
    for state, temperature in states.items():
        held_out, own = material.validation, material.record
        found[state] = {}
        for rule in RULES:
            threshold = conformal_threshold(held_out.logits, held_out.labels, rule, LEVEL, temperature=temperature)
            # Another seed than that of the validation examples: their draws must be independent.
            sets = prediction_sets(own.logits, own.labels, threshold, rule, seed=1, temperature=temperature)
            found[state][rule] = coverage_of(sets, own.labels)
    return found


def _recalibration(material: Material) -> dict[str, Any]:
    assert material.validation is not None
    return compared(material.validation, material.record)


def _groups(material: Material) -> dict[str, Any]:
    assert material.record.groups is not None
    return by_group(material.examples.confidence, material.examples.correct, material.record.groups)


EXTRAS: Mapping[str, Extra] = {
    "classes": Extra(
        lambda m: by_group(m.examples.confidence, m.examples.correct, m.record.labels),
        "accuracy and ECE of the examples of each class (`groups`), the worst and the gaps",
    ),
    "groups": Extra(_groups, "the same of each group in the record's entry `groups`"),
    "refinement": Extra(
        lambda m: refinement_parts(m.record.logits, m.record.labels),
        "what a temperature fitted on these examples leaves of NLL and Brier score, `.._refinement`, and what it takes "
        "away, `.._calibration`; the same of the Brier score of being right, by isotonic regression",
    ),
    "calibration_test": Extra(
        lambda m: calibration_test(m.examples.confidence, m.examples.correct),
        "`p_value` of the hypothesis that each prediction is right with a probability equal to its confidence",
    ),
    "recalibration": Extra(
        _recalibration,
        "post-hoc methods beside temperature scaling: {method: {`nll`, `minus_temperature` with its interval}}, "
        "`cross_fitted` on the validation record, the `best` of these, and `here`, fitted on the whole of it; "
        "`cross_fitted_confidence`, `best_confidence` and `here_confidence` by `brier_top_label`, also of methods of "
        "the confidence",
        validated=True,
    ),
    "conformal": Extra(
        _conformal,
        "sets of classes, calibrated on the validation record to hold the label with probability `level`: of `thr`, "
        "`aps` and `raps`, `as_trained` and `with_temperature`, `coverage` with its exact interval, `mean_size`, "
        "`empty`, `by_size`, `worst_class_coverage` and `class_gap`; `warning` on shifted data",
        validated=True,
    ),
}
"""The analyses by name."""


SCORES = tuple(score.key for score in table.SCORES if score.on_request is not None)
"""The names in `--extra` of scores that are made on request; their numbers are those of the entries of `ood`."""
NAMES = (*EXTRAS, *SCORES)


def check_extras(names: Sequence[str], test: Predictions, *, validated: bool) -> None:
    """Raises InputError for a name that is not in EXTRAS, or an analysis that lacks what it needs."""
    for name in names:
        if name not in NAMES:
            raise unknown_name("extra analysis", name, NAMES)
        if name in EXTRAS and EXTRAS[name].validated and not validated:
            raise InputError(f"the extra analysis {name!r} has no validation record; expected one to fit on")
        if name == "calibration_test" and ROWS_BY_IMAGE in test.meta:
            raise InputError(
                "the extra analysis 'calibration_test' needs independent examples; expected no pixels of images"
            )
        if name == "groups" and test.groups is None:
            raise InputError(
                "the extra analysis 'groups' needs groups; expected an entry groups [N] of the test record"
            )


def extras_of(names: Sequence[str], material: Material, *, of_validation: bool = False) -> dict[str, Any]:
    """Returns {name: numbers} of some analyses of one record, as far as it has what they need.

    On the validation record itself, nothing that is calibrated on it is measured.
    """
    return {
        name: EXTRAS[name].make(material)
        for name in names
        if name in EXTRAS
        and not (EXTRAS[name].validated and of_validation)
        and not (name == "groups" and material.record.groups is None)
    }
