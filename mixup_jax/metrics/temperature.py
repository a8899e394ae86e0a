"""Calibration after training: one temperature, fitted on validation data."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import blocks, check_logits
from mixup_jax.metrics.softmax import Floats, check_labelled, shifted_logits

COLDEST = 0.01
HOTTEST = 100.0
_TOLERANCE = 1e-12  # of log T
_MOST_STEPS = 200  # the safeguard at least halves the step every other time, so about 90 suffice


def check_temperature(temperature: float) -> None:
    """Raises InputError unless the temperature is a finite number above 0."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature is {temperature}; expected a finite number above 0")


def scale(logits: npt.ArrayLike, temperature: float) -> Floats:
    """Returns `logits / temperature`, float64 `[N, K]`: softer above 1, sharper below; predictions stay."""
    check_temperature(temperature)
    scaled: Floats = check_logits(np.asarray(logits)).astype(np.float64) / temperature
    return scaled


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the temperature T in [0.01, 100] that minimises the NLL of `softmax(logits / T)`.

    The NLL is convex in b = 1/T (Guo et al., 2017, section 4.2), so its derivative
    `mean_i (E_{p_i(b)}[z_i] - z_i[y_i])` grows with b, and the minimum is its only zero.  It is found by
    Newton's method in log T, safeguarded by bisection, to about 1e-10 of T.  T < 1 means an under-confident
    network, which is common after mixup.  The NLL at T is never above that at 1.

    Edge cases:
      * every example classified correctly: the NLL falls towards T = 0, and the bound 0.01 is returned;
      * predictions no better than chance: it falls towards infinite T, and the bound 100 is returned;
      * logits without information (constant rows): no T changes anything, and 1 is returned;
      * an example whose true class is impossible (logit -inf) has infinite NLL at every T and is left
        out; if no example remains, 1 is returned.

    Fit it on validation data, never on the data to be reported.  The logits are read a block of rows at a time, about
    ten times over.
    """
    examples = _Possible(*check_labelled(logits, labels))
    if not examples.n:
        return 1.0
    low, high = -math.log(HOTTEST), -math.log(COLDEST)
    slope_low, slope_high = _slope(examples, low)[0], _slope(examples, high)[0]
    if slope_low == 0.0 and slope_high == 0.0:
        return 1.0
    if slope_high <= 0.0:
        return COLDEST
    if slope_low >= 0.0:
        return HOTTEST
    temperature = math.exp(-_root(examples, low, high))
    return temperature if _nll(examples, temperature) <= _nll(examples, 1.0) else 1.0


@dataclass(frozen=True, eq=False)
class _Possible:
    """The examples whose true class is possible; each pass reads them again, block by block."""

    logits: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer]

    @property
    def n(self) -> int:
        return int(sum(np.isfinite(_true(self.logits[rows], self.labels[rows])).sum() for rows in self._blocks()))

    def __iter__(self) -> Iterator[tuple[Floats, Floats]]:
        """Yields logits minus the maximum of their row, `[n, K]`, and the one of the true class, `[n]`."""
        for rows in self._blocks():
            shifted = shifted_logits(self.logits[rows])
            true = _true(shifted, self.labels[rows])
            possible = np.isfinite(true)
            yield (shifted, true) if possible.all() else (shifted[possible], true[possible])

    def _blocks(self) -> Iterator[slice]:
        return blocks(*self.logits.shape)


def _true(logits: npt.NDArray[Any], labels: npt.NDArray[np.integer]) -> Floats:
    true: Floats = logits[np.arange(len(logits)), labels].astype(np.float64)
    return true


def _slope(examples: _Possible, log_b: float) -> tuple[float, float]:
    """Returns n times the derivative of the NLL with respect to b = exp(log_b), and its derivative by log_b."""
    b = math.exp(log_b)
    slope = variance = 0.0
    for shifted, true in examples:
        weights = np.exp(b * shifted)
        # An impossible class has weight 0, and 0 * -inf would be NaN.
        finite = np.where(np.isneginf(shifted), 0.0, shifted)
        total = weights.sum(axis=1)
        mean = np.einsum("nk,nk->n", weights, finite) / total
        finite -= mean[:, None]
        slope += float((mean - true).sum())
        variance += float((np.einsum("nk,nk,nk->n", weights, finite, finite) / total).sum())
    return slope, b * variance


def _root(examples: _Possible, low: float, high: float) -> float:
    """Returns the zero of the slope in log b between `low` (slope negative) and `high` (slope positive)."""
    at = min(max(0.0, low), high)
    step = previous = high - low
    for _ in range(_MOST_STEPS):
        slope, growth = _slope(examples, at)
        if slope == 0.0:
            break
        low, high = (at, high) if slope < 0 else (low, at)
        newton = at - slope / growth if growth > 0 else math.inf
        # Newton's step must stay in the bracket and be at most half the step before last; else bisect the bracket.
        sound = low <= newton <= high and abs(newton - at) <= previous / 2
        following = newton if sound else (low + high) / 2
        previous, step = step, abs(following - at)
        at = following
        if step <= _TOLERANCE:
            break
    return at


def _nll(examples: _Possible, temperature: float) -> float:
    """Returns the NLL times n."""
    return sum(
        float((np.log(np.exp(shifted / temperature).sum(axis=1)) - true / temperature).sum())
        for shifted, true in examples
    )
