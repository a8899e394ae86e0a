"""Paired differences over seeds: their intervals, p values corrected by Holm's method, and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

FEWEST = 3
"""Seeds that an interval takes."""


@dataclass(frozen=True)
class Comparison:
    """Mixup minus ERM of one number in one regime.

    Attributes:
      mean: of the differences; NaN where there is none.
      low: lower end of the 95 % t interval; NaN with fewer than `FEWEST` seeds.
      high: its upper end.
      p: of the paired t test, as it is or corrected; NaN likewise.
      n: seeds.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int

    @property
    def verdict(self) -> str:
        """What is said of it at 5 %: lower, higher or undecided; "too few seeds" where nothing is tested."""
        if self.n < FEWEST:
            return "too few seeds"
        if self.p >= 0.05:
            return "undecided"
        return "lower" if self.mean < 0 else "higher"

    def no_gain(self, margin: float, *, lower_is_better: bool = True) -> bool:
        """Returns whether the whole interval excludes a gain beyond a margin."""
        return self.low > -margin if lower_is_better else self.high < margin


def compare(differences: Sequence[float]) -> Comparison:
    """Returns the paired comparison of differences, one a seed."""
    values, n = np.asarray(differences, float), len(differences)
    if n < FEWEST:
        return Comparison(float(values.mean()) if n else np.nan, np.nan, np.nan, np.nan, n)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / n**0.5
    if error == 0:
        return Comparison(mean, mean, mean, 0.0 if mean else 1.0, n)
    reach = error * float(stats.t.ppf(0.975, n - 1))
    return Comparison(mean, mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, n - 1)), n)


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Returns the comparisons with p values by Holm's method (1979): the k-th smallest of m times m - k + 1, in order.

    Those without a p value are no part of the family.
    """
    tested = sorted((one.p, place) for place, one in enumerate(comparisons) if not np.isnan(one.p))
    out, largest = list(comparisons), 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        out[place] = replace(comparisons[place], p=largest)
    return out
