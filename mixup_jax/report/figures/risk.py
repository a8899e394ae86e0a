"""The error of the most confident examples, for every share of them."""

from __future__ import annotations

import numpy as np

from mixup_jax.errors import InputError
from mixup_jax.metrics.calibration import check_confidences
from mixup_jax.metrics.scores import Bools, Floats

GRID = np.linspace(0.005, 1.0, 200)
"""The coverages at which curves of several seeds are averaged."""


def risk_coverage_curve(confidence: Floats, correct: Bools) -> tuple[Floats, Floats]:
    """Returns coverage and risk as more and more examples are answered, the most confident first.

    Examples of equal confidence enter together, so the curve does not depend on their order, and has
    one point for each distinct confidence (El-Yaniv & Wiener, 2010).

    Args:
      confidence: `[N]` in [0, 1].
      correct: `[N]`, whether the prediction is right.

    Returns:
      Coverage, the share of examples answered, `[D]` in (0, 1], rising to 1; and risk, the share of
      errors among those, `[D]` in [0, 1], ending at 1 - accuracy.

    Raises:
      InputError: the two differ in length, are empty, or a confidence is outside [0, 1].
    """
    confidence, correct = check_confidences(confidence, correct)
    if not len(confidence):
        raise InputError("confidence holds no example; expected at least one")
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    answered = ends + 1.0
    wrong = np.cumsum(~correct[order])[ends]
    return answered / len(order), wrong / answered


def risk_at(coverage: Floats, risk: Floats, wanted: Floats) -> Floats:
    """Returns the risk of the smallest set on the curve that covers at least the wanted share, `[W]`."""
    return np.asarray(risk[np.searchsorted(coverage, wanted - 1e-12)])
