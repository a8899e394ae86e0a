"""Values, intervals and noise floors of a set of examples, for each row of the table of metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.metrics import table
from mixup_jax.metrics.binning import bin_confidences
from mixup_jax.metrics.examined import Examined
from mixup_jax.metrics.intervals import intervals_of
from mixup_jax.metrics.logits import in_threads, rows_of
from mixup_jax.metrics.order import both_ascending
from mixup_jax.metrics.proper import brier_decomposition
from mixup_jax.metrics.replicates import with_bins
from mixup_jax.metrics.resampling import bootstrap_interval_of, wilson_interval
from mixup_jax.metrics.softmax import Floats
from mixup_jax.metrics.table import Bootstrap, Metric, Score

_DERIVED = {"bins": bin_confidences, "brier_parts": brier_decomposition}
"""Statistics that are computed from confidence, correctness and a number of bins; the name "bins_15" means 15 bins."""


class Given:
    """The arrays from which rows of the table are computed.

    Bins and other statistics that several rows share are computed once.
    """

    def __init__(self, vectors: Mapping[str, npt.NDArray[Any]], temperature: float = 1.0) -> None:
        """Takes arrays over the same examples, by the names that rows use.  Logits are divided by the temperature."""
        self.vectors = vectors
        self.temperature = temperature
        self._derived: dict[str, Any] = {}

    def has(self, row: Metric) -> bool:
        """Returns whether the row can be computed."""
        few = "logits" in self.vectors and self.vectors["logits"].shape[1] < row.classes
        return not few and all(name in self.vectors for name in self.vectors_of(row))

    def vectors_of(self, row: Metric) -> tuple[str, ...]:
        """Returns the names of the arrays that a row is computed from."""
        names = [("confidence", "correct") if _derived_from(name) else (name,) for name in row.of]
        return tuple(dict.fromkeys(name for group in names for name in group))

    def number(self, row: Metric) -> float:
        """Returns the number of a row."""
        scaled = {"temperature": self.temperature} if self.temperature != 1.0 else {}
        return float(row.function(*self.arguments(row), **scaled))

    def arguments(self, row: Metric) -> list[Any]:
        """Returns the arguments of a row's function."""
        return [self._argument(name) for name in row.of]

    def _argument(self, name: str) -> Any:
        make = _derived_from(name)
        if make is None:
            return self.vectors[name]
        if name not in self._derived:
            bins = int(name.rpartition("_")[2])
            self._derived[name] = make(self.vectors["confidence"], self.vectors["correct"], bins)
        return self._derived[name]


def _derived_from(name: str) -> Any:
    return _DERIVED.get(name.rpartition("_")[0])


def values(given: Given, rows: Sequence[Metric]) -> dict[str, float | None]:
    """Returns the number of each row that can be computed, by its key; None for an infinite one (not valid in JSON)."""
    known = [row for row in rows if given.has(row)]
    found = in_threads(lambda place: given.number(known[place.start]), list(rows_of(len(known), 1)))
    numbers = {row.key: number for row, number in zip(known, found, strict=True)}
    return {key: number if math.isfinite(number) else None for key, number in numbers.items()}


def intervals(
    given: Given, rows: Sequence[Metric], numbers: Mapping[str, float | None], *, slow: bool
) -> dict[str, list[float]]:
    """Returns the 95 % interval [low, high] of each row that has one and a finite number, by its key.

    `numbers` are the `values` of the rows.  With `slow`, also the intervals that take a second or more.
    """
    made = {
        row: row.interval
        for row in rows
        if row.interval is not None
        and not row.interval.withheld
        and (slow or not row.interval.slow)
        and numbers.get(row.key) is not None
    }
    together = {row: how for row, how in made.items() if how.own is None and (how.replicates or how.each)}
    found = _together(given, together, numbers) if together else {}
    found |= {row.key: _alone(given, row, how, numbers[row.key]) for row, how in made.items() if row not in together}
    order = {key: place for place, key in enumerate(table.INTERVALS)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _together(
    given: Given, rows: Mapping[Metric, Bootstrap], numbers: Mapping[str, float | None]
) -> dict[str, list[float]]:
    """Returns the intervals of the rows whose replicates are made for many resamples at once."""
    wanted = {row.key: with_bins(how.replicates, row.bins) for row, how in rows.items() if how.replicates}
    losses = {row.key: how.each(*given.arguments(row)) for row, how in rows.items() if how.each}
    # Examples of equal confidence and correctness are sorted by their losses, so the order of the losses must be fixed.
    losses = dict(sorted(losses.items()))
    limits = {row.key: row.limits for row in rows}
    found = intervals_of(given.vectors["confidence"], given.vectors["correct"], wanted, losses, limits)
    # The number was summed in another order and may differ in the last digit; it must lie in its interval.
    return {
        key: [min(low, number), max(high, number)]
        for key, (low, high) in found.items()
        if (number := numbers[key]) is not None and math.isfinite(low) and math.isfinite(high)
    }


def _alone(given: Given, row: Metric, how: Bootstrap, measured: float | None) -> list[float]:
    """Returns the interval of a row by the row's own function, or else by computing the row for every resample."""
    if how.own is not None:
        return list(how.own(*given.arguments(row)))
    names = given.vectors_of(row)

    def number(*arrays: npt.NDArray[Any]) -> float:
        return Given(dict(zip(names, arrays, strict=True)), given.temperature).number(row)

    vectors = [(given.vectors[name],) for name in names]
    # Arrays of the same examples are resampled together, the scores of two sets separately.
    sets = vectors if row.of == table.SETS else [tuple(vector for (vector,) in vectors)]
    low, high = bootstrap_interval_of(number, *sets)
    if how.share_of and measured is not None and measured in row.limits:
        n = len(given.vectors[how.share_of])
        ends = wilson_interval(round(measured * n), n)
        low, high = min(low, ends.low), max(high, ends.high)
    return [max(low, row.limits[0]), min(high, row.limits[1])]


def top_label(given: Given, *, slow: bool = False) -> dict[str, Any]:
    """Returns n, the numbers of all rows that can be computed, `intervals` and `noise_floor` of labelled examples.

    The vectors hold at least confidence and correct.  With `slow`, also the intervals that take a second or more.
    """
    rows = [row for row in table.METRICS if not row.full_vector]
    numbers = values(given, rows)
    return {
        "n": len(given.vectors["correct"]),
        **table.nested(numbers),
        "intervals": intervals(given, rows, numbers, slow=slow),
        "noise_floor": {
            row.key: row.floor(given.vectors["confidence"])._asdict()
            for row in rows
            if row.floor is not None and (slow or row.interval is None or not row.interval.slow)
        },
    }


def full_vector(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], temperature: float = 1.0
) -> tuple[Given, dict[str, float | None]]:
    """Returns the numbers of the rows that judge all classes, and what they were computed from.

    The temperature divides the logits; unless it is 1, rows that do not depend on it are left out.
    """
    given = Given({"logits": logits, "labels": labels}, temperature)
    rows = [row for row in table.METRICS if row.full_vector and not (row.unscaled and temperature != 1.0)]
    return given, values(given, rows)


def scores_of(examples: Examined) -> dict[Score, Floats]:
    """Returns the OOD scores of examples that can be computed from their logits."""
    return {score: getattr(examples, score.field) for score in table.SCORES if score.field is not None}


def separation(score_in: Floats, score_out: Floats, *, slow: bool = False) -> dict[str, Any]:
    """Returns the numbers of DETECTION for one score (higher = more OOD), and their `intervals`.

    With `slow`, also the intervals that take a second or more.
    """
    numbers = detection(score_in, score_out)
    given = Given(dict(zip(table.SETS, (score_in, score_out), strict=True)))
    return {**table.nested(numbers), "intervals": intervals(given, table.DETECTION, numbers, slow=slow)}


def detection(score_in: Floats, score_out: Floats) -> dict[str, float | None]:
    """Returns the numbers of the rows of DETECTION for one score."""
    return values(Given(dict(zip(table.SETS, both_ascending(score_in, score_out), strict=True))), table.DETECTION)
