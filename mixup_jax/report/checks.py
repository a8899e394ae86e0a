"""Checks the form of evaluation.json before anything is computed from it."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from mixup_jax.errors import InputError
from mixup_jax.metrics import table
from mixup_jax.metrics.table import Metric
from mixup_jax.runs.files import key, shown

SCHEMA = 1
"""The supported version of evaluation.json."""

METHOD_NUMBERS = ("mixup_alpha", "label_smoothing", "entropy_weight")
METHOD_SWITCHES = ("mix_inputs", "mix_labels")


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
