"""The risk-coverage curve at coverages that curves of any number of examples have in common."""

from __future__ import annotations

import numpy as np

from mixup_jax.metrics.selective import risk_coverage
from mixup_jax.metrics.softmax import Bools, Floats

STEPS = 200
GRID = np.arange(1, STEPS + 1) / STEPS
"""The coverages at which curves of several seeds are averaged: 0.005, 0.01, .., 1."""


def risk_at_grid(sureness: Floats, correct: Bools) -> Floats:
    """Returns the error among the ceil(c N) surest examples for every coverage c of `GRID`, `[200]` in [0, 1].

    Equally sure examples count by expectation over their orders, as in `metrics.risk_coverage`.

    Args:
      sureness: `[N]`, N >= 1, the higher the surer.
      correct: bool `[N]`.

    Raises:
      InputError: the arrays differ in length, are empty, or a number is NaN.
    """
    risk = risk_coverage(-np.asarray(sureness, np.float64), correct).risk
    # In whole numbers: ceil(0.55 * 100) of floating point is 56.
    answered = -(-np.arange(1, STEPS + 1) * len(risk) // STEPS)
    return risk[answered - 1]
