"""Calibration after training: one temperature, fitted on validation data."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.scores import Floats, labelled, shifted_logits
from mixup_jax.records import check_logits

COLDEST = 0.01
HOTTEST = 100.0
_TOLERANCE = 1e-12  # of log T
_MOST_STEPS = 200  # the safeguard at least halves the step every other time, so about 90 suffice


def scale(logits: npt.ArrayLike, temperature: float) -> Floats:
    """Returns `logits / temperature`, float64 `[N, K]`: softer above 1, sharper below; the ranking stays.

    Raises:
      InputError: the temperature is not a finite number above 0, or the logits are malformed.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature is {temperature}; expected a finite number above 0")
    scaled: Floats = check_logits(np.asarray(logits)).astype(np.float64) / temperature
    return scaled


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the temperature T in [0.01, 100] that minimises the NLL of `softmax(logits / T)`.

    The NLL is convex in b = 1/T (Guo et al., 2017, section 4.2), so its derivative
    `mean_i (E_{p_i(b)}[z_i] - z_i[y_i])` grows with b and its only zero is the minimum; it is found by
    Newton's method in log T, safeguarded by bisection, to about 1e-10 of T.  T < 1 (an under-confident
    network, common after mixup) is as good an answer as T > 1.  The NLL at T never exceeds that at 1.

    At the edges:
      * every example classified correctly: the NLL falls towards T = 0, and the bound 0.01 is returned;
      * predictions no better than chance: it falls towards infinite T, and the bound 100 is returned;
      * logits without information (constant rows): no T changes anything, and 1 is returned;
      * an example whose true class is impossible (logit -inf) has infinite NLL at every T and is left
        out; if that leaves none, 1 is returned.

    Args:
      logits: floating point `[N, K]`, of validation data, never of the data to be reported.
      labels: integer `[N]` in [0, K).

    Raises:
      InputError: the arrays are malformed or an example has no label.
    """
    checked_logits, checked_labels = labelled(logits, labels)
    shifted = shifted_logits(checked_logits)
    true = shifted[np.arange(len(shifted)), checked_labels]
    possible = np.isfinite(true)
    if not possible.any():
        return 1.0
    shifted, true = shifted[possible], true[possible]

    low, high = -math.log(HOTTEST), -math.log(COLDEST)
    slope_low, slope_high = _slope(shifted, true, low)[0], _slope(shifted, true, high)[0]
    if slope_low == 0.0 and slope_high == 0.0:
        return 1.0
    if slope_high <= 0.0:
        return COLDEST
    if slope_low >= 0.0:
        return HOTTEST
    temperature = math.exp(-_root(shifted, true, low, high))
    return temperature if _nll(shifted, true, temperature) <= _nll(shifted, true, 1.0) else 1.0


def _slope(shifted: Floats, true: Floats, log_b: float) -> tuple[float, float]:
    """Returns the derivative of the NLL by b = exp(log_b), and the derivative of that by log_b."""
    b = math.exp(log_b)
    weights = np.exp(b * shifted)
    # An impossible class has weight 0, and 0 * -inf would be NaN.
    finite = np.where(np.isneginf(shifted), 0.0, shifted)
    total = weights.sum(axis=1)
    mean = (weights * finite).sum(axis=1) / total
    variance = (weights * np.square(finite - mean[:, None])).sum(axis=1) / total
    return float((mean - true).mean()), b * float(variance.mean())


def _root(shifted: Floats, true: Floats, low: float, high: float) -> float:
    """Returns the zero of the slope in log b between `low` (slope negative) and `high` (slope positive)."""
    at = min(max(0.0, low), high)
    step = previous = high - low
    for _ in range(_MOST_STEPS):
        slope, growth = _slope(shifted, true, at)
        if slope == 0.0:
            break
        low, high = (at, high) if slope < 0 else (low, at)
        newton = at - slope / growth if growth > 0 else math.inf
        # Newton's step must stay inside and must halve the step before last; else halve the bracket.
        sound = low <= newton <= high and abs(newton - at) <= previous / 2
        following = newton if sound else (low + high) / 2
        previous, step = step, abs(following - at)
        at = following
        if step <= _TOLERANCE:
            break
    return at


def _nll(shifted: Floats, true: Floats, temperature: float) -> float:
    return float((np.log(np.exp(shifted / temperature).sum(axis=1)) - true / temperature).mean())
