"""Checks the form of evaluation.json before anything is computed from it, and whether it agrees with the records."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics import table
from mixup_jax.metrics.examined import Examined
from mixup_jax.metrics.measuring import Given, detection, scores_of, values
from mixup_jax.metrics.table import Metric
from mixup_jax.runs.files import key, shown

SCHEMA = 1
"""The supported version of evaluation.json."""

METHOD_NUMBERS = ("mixup_alpha", "label_smoothing", "entropy_weight")
METHOD_SWITCHES = ("mix_inputs", "mix_labels")


@dataclass(frozen=True, eq=False)
class RecordedSet:
    """The values derived from the predictions on one data set; the logits are not kept.

    Labels are as recorded, -1 for an example without one.  `trained` is derived from the logits, `scaled` from those
    after temperature scaling; it is None if no temperature was fitted.
    """

    labels: npt.NDArray[np.integer]
    meta: dict[str, Any]
    trained: Examined
    scaled: Examined | None

    def examined(self, *, scaled: bool = False) -> Examined:
        """Returns `trained`, or with `scaled` the values after temperature scaling if there is a temperature."""
        return self.scaled if scaled and self.scaled is not None else self.trained


class Checks:
    """Checks parts of one file; every error is an `InputError` that names the file and the key."""

    def __init__(self, path: Path) -> None:
        """Takes the file's path, for the messages."""
        self._path = path

    def evaluation(self, evaluation: Mapping[str, Any]) -> str:
        """Checks that everything the report needs is there, and returns the key of the test set."""
        if evaluation.get("schema") != SCHEMA or isinstance(evaluation.get("schema"), bool):
            raise self._wrong("schema", evaluation.get("schema"), str(SCHEMA))
        self._whole("step", evaluation.get("step"), least=0)
        self._number("training_seconds", evaluation.get("training_seconds"), optional=True, least=0.0)
        self._config(evaluation.get("config"))
        results = evaluation.get("results")
        if not isinstance(results, dict):
            raise self._wrong("results", results, "an object with one entry a data set")
        test_name = self._test_name(results, evaluation["config"].get("data"))
        self._result(key("results", test_name), results[test_name])
        ood = evaluation.get("ood", {})
        if not isinstance(ood, dict):
            raise self._wrong("ood", ood, "an object with one entry a data set")
        for name, entry in ood.items():
            self._ood(key("ood", name), entry)
        self._each("", evaluation, "ood_groups", self._group)
        return test_name

    def _config(self, config: Any) -> None:
        if not isinstance(config, dict):
            raise self._wrong("config", config, "the config of the run that was evaluated")
        seed = config.get("seed")
        if seed is not None:
            self._whole("config.seed", seed)
        method = config.get("method")
        if not isinstance(method, dict):
            return
        for name in METHOD_NUMBERS:
            if name in method:
                self._number(f"config.method.{name}", method[name], least=0.0)
        for name in METHOD_SWITCHES:
            if not isinstance(method.get(name, True), bool):
                raise self._wrong(f"config.method.{name}", method[name], "true or false")

    def _test_name(self, results: Mapping[str, Any], data: Any) -> str:
        tests = [name for name in results if name.endswith("/test")]
        if not tests:
            found = ", ".join(results) or "none"
            raise InputError(f"{self._path}: no test set among the results ({found}); evaluate with --datasets=test")
        preferred = f"{data.get('name')}/test" if isinstance(data, dict) else ""
        return preferred if preferred in tests else tests[0]

    def _result(self, where: str, entry: Any) -> None:
        self._numbers(where, entry)
        self._scaling(where, entry, self._numbers)

    def _scaling(self, where: str, entry: Mapping[str, Any], check: Callable[[str, Any], None]) -> None:
        """Checks a temperature, and what is measured after it."""
        after, temperature = entry.get("after_temperature"), entry.get("temperature")
        self._number(key(where, "temperature"), temperature, optional=after is None)
        if temperature is not None and not temperature > 0:
            raise self._wrong(key(where, "temperature"), temperature, "a number above 0")
        if after is not None:
            check(key(where, "after_temperature"), after)

    def _numbers(self, where: str, entry: Any) -> None:
        self._counted(where, entry, ("n",))
        self._rows(where, entry, table.METRICS)
        self._each(where, entry, "intervals", self._interval)
        self._each(where, entry, "noise_floor", self._floor)

    def _counted(self, where: str, entry: Any, names: Sequence[str]) -> None:
        if not isinstance(entry, dict):
            raise self._wrong(where, entry, "an object of numbers")
        for name in names:
            self._whole(key(where, name), entry.get(name), least=1)

    def _rows(self, where: str, entry: Mapping[str, Any], rows: Sequence[Metric], *, optional: bool = False) -> None:
        for row in rows:
            group = row.key.rpartition("/")[0]
            if not isinstance(entry.get(group), dict | None):
                raise self._wrong(key(where, group), entry[group], "an object")
            may_be_null = optional or not row.required or row.limits[1] == math.inf
            named = reduce(key, row.key.split("/"), where)
            self._number(named, table.stored(entry, row.key), optional=may_be_null)

    def _ood(self, where: str, entry: Any) -> None:
        self._separation(where, entry)
        self._scaling(where, entry, self._separation)

    def _group(self, where: str, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise self._wrong(where, entry, "an object with sets and scores")
        self._each(where, entry, "scores", self._score)

    def _separation(self, where: str, entry: Any) -> None:
        self._counted(where, entry, ("n_in", "n_out"))
        self._rows(where, entry, table.DETECTION)
        self._number(key(where, "mean_confidence"), entry.get("mean_confidence"))
        self._each(where, entry, "intervals", self._interval)
        self._each(where, entry, "scores", self._score)

    def _score(self, where: str, entry: Any) -> None:
        if entry is None:
            return
        if not isinstance(entry, dict):
            raise self._wrong(where, entry, "an object of numbers")
        self._rows(where, entry, table.DETECTION, optional=True)
        self._each(where, entry, "intervals", self._interval)

    def _floor(self, where: str, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise self._wrong(where, entry, "an object with mean and p95")
        for name in ("mean", "p95"):
            self._number(key(where, name), entry.get(name), optional=True)

    def _interval(self, where: str, ends: Any) -> None:
        if ends is None:
            return
        if (
            not isinstance(ends, list)
            or len(ends) != 2
            or not all(_is_number(end) for end in ends)
            or ends[0] > ends[1]
        ):
            raise self._wrong(where, ends, "[low, high], two numbers in that order")

    def _each(self, where: str, entry: Mapping[str, Any], name: str, check: Callable[[str, Any], None]) -> None:
        """Checks every part of an object; the object may be missing."""
        parts = entry.get(name)
        if parts is None:
            return
        if not isinstance(parts, dict):
            raise self._wrong(key(where, name), parts, "an object")
        for part, value in parts.items():
            check(key(key(where, name), part), value)

    def _number(self, where: str, value: Any, *, optional: bool = False, least: float | None = None) -> None:
        if value is None and optional:
            return
        if not _is_number(value):
            raise self._wrong(where, value, "a finite number")
        if least is not None and value < least:
            raise self._wrong(where, value, f"a number of at least {least:g}")

    def _whole(self, where: str, value: Any, least: int | None = None) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
            raise self._wrong(
                where, value, "a whole number" if least is None else f"a whole number of at least {least}"
            )

    def _wrong(self, where: str, value: Any, right: str) -> InputError:
        return InputError(f"{self._path}: {where} is {shown(value)}; expected {right}")


def _is_number(value: Any) -> bool:
    # Infinity and NaN were refused when the file was read.
    return isinstance(value, int | float) and not isinstance(value, bool)


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

    The evaluation has passed `Checks`, which returned `test_name`.  A number that differs by more than `TOLERANCE`
    raises InputError with its key and both values.
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
