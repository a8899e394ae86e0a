"""Checks that evaluation.json agrees with the records beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from mixup_jax.errors import InputError
from mixup_jax.metrics import table
from mixup_jax.metrics.examined import Examined
from mixup_jax.metrics.measuring import Given, detection, scores_of, values
from mixup_jax.runs.files import key

if TYPE_CHECKING:
    from mixup_jax.report.runs import RecordedSet

TOLERANCE = 1e-7
"""The largest allowed distance between a stored and a recomputed number; relative for numbers above 1."""

AS_TRAINED = ""
STATES = (AS_TRAINED, "after_temperature")

Pair = tuple[str, float | None, float | None]
"""A number's name, its value in evaluation.json and its value from the records."""


def check_agreement(
    evaluation: Mapping[str, Any], test_name: str, test: RecordedSet, ood: Mapping[str, RecordedSet]
) -> None:
    """Recomputes numbers of evaluation.json from the records and compares them.

    For the test set, before and after temperature scaling: n, and the rows of `metrics.table.METRICS` except those that
    use the probabilities of all classes.  For every out-of-distribution set: both n, the mean confidence and, for every
    score, the rows of `DETECTION`.  The temperature, intervals and noise floors are not checked.

    Args:
      evaluation: of the form that `checks` wants.
      test_name: the key of the test set in `evaluation["results"]`.
      test: what its record gives.
      ood: what those of the out-of-distribution sets give.

    Raises:
      InputError: a number differs by more than 1e-7; the message names the key and both values.
    """
    for where, stored, computed in _pairs(evaluation, test_name, test, ood):
        if not _agree(stored, computed):
            given = "inf" if computed is None else f"{computed:.9g}"
            raise InputError(f"{where} is {stored}, but the records beside it give {given}")


def _agree(stored: float | None, computed: float | None) -> bool:
    if stored is None or computed is None:  # infinite
        return stored is computed
    return abs(stored - computed) <= TOLERANCE * max(1.0, abs(computed))


def _pairs(
    evaluation: Mapping[str, Any], test_name: str, test: RecordedSet, ood: Mapping[str, RecordedSet]
) -> Iterator[Pair]:
    written = evaluation["results"][test_name]
    for state in STATES:
        result = written if state == AS_TRAINED else written.get(state)
        inside = test.trained if state == AS_TRAINED else test.scaled
        if result is not None and inside is not None:
            yield from _compared(_named("results", test_name, state), result, _test_numbers(inside))
        for name, recorded in ood.items():
            stored = evaluation["ood"][name]
            separation = stored if state == AS_TRAINED else stored.get(state)
            if separation is None:
                continue
            where = _named("ood", name, state)
            outside = recorded.trained if state == AS_TRAINED else recorded.scaled
            if inside is None or outside is None:
                raise InputError(f"{where} is there, but {key('results', test_name)}.temperature is not")
            if state != AS_TRAINED:
                yield key(key("ood", name), "temperature"), stored.get("temperature"), float(written["temperature"])
            yield from _separations(where, separation, inside, outside)


def _named(part: str, name: str, state: str) -> str:
    return key(key(part, name), state) if state else key(part, name)


def _separations(where: str, entry: Mapping[str, Any], inside: Examined, outside: Examined) -> Iterator[Pair]:
    counts = {"n_in": len(inside), "n_out": len(outside), "mean_confidence": float(outside.confidence.mean())}
    (first, score_in), *others = scores_of(inside).items()
    foreign = scores_of(outside)
    yield from _compared(where, entry, {**counts, **detection(score_in, foreign[first])})
    for score, score_in in others:
        found = table.stored(entry, f"scores/{score.key}")
        if found:
            numbers = detection(score_in, foreign[score])
            yield from _compared(key(key(where, "scores"), score.key), found, numbers, optional=True)


def _compared(
    where: str, entry: Mapping[str, Any], computed: Mapping[str, Any], *, optional: bool = False
) -> Iterator[Pair]:
    may_be_missing = {row.key for row in table.METRICS if not row.required}
    for name, value in computed.items():
        found = table.stored(entry, name)
        if found is not None or not (optional or name in may_be_missing):
            yield reduce(key, name.split("/"), where), found, value


def _test_numbers(examples: Examined) -> dict[str, float | None]:
    known = examples.only_labelled()
    if not len(known):
        raise InputError("the record of the test set has no labels; expected at least one labelled example")
    rows = [row for row in table.METRICS if not row.full_vector]
    return {"n": len(known), **values(Given(vars(known)), rows)}
