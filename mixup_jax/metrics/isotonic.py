"""Isotonic regression of the top-label confidence, fitted on validation data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import check_confidences
from mixup_jax.metrics.scores import Floats


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A map of confidences that never reverses their order: linear between its knots, level outside.

    Attributes:
      confidence: float64 `[J]`, ascending, J >= 1: where the knots are.
      accuracy: float64 `[J]`, ascending, in [0, 1]: what the map gives there.
    """

    confidence: Floats
    accuracy: Floats

    def apply(self, confidence: npt.ArrayLike) -> Floats:
        """Returns the recalibrated confidences, float64 `[N]` in [0, 1].

        Raises:
          InputError: not a vector, NaN, or outside [0, 1].
        """
        given, _ = check_confidences(confidence, np.zeros(np.shape(confidence), bool))
        return np.interp(given, self.confidence, self.accuracy).astype(np.float64)


def fit_isotonic(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> Isotonic:
    """Returns the non-decreasing map from confidence to accuracy of least squared error (Zadrozny & Elkan, 2002).

    It maps **the confidence of the predicted class only**: predictions stay, and the other classes get no
    probability, so there is no NLL or Brier score of all classes after it.  The fit is scikit-learn's
    `IsotonicRegression`.

    Args:
      confidence: `[N]` in [0, 1], N >= 1, of validation data, never of the data to be reported.
      correct: bool `[N]`.

    Raises:
      InputError: the arrays are malformed or empty, or scikit-learn is not installed.
    """
    given, outcomes = check_confidences(confidence, correct)
    if not len(given):
        raise InputError("confidence holds no examples; expected at least one")
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise InputError(
            "isotonic regression needs scikit-learn, which is not installed; expected `pip install scikit-learn`"
        ) from error
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(given, outcomes.astype(np.float64))
    knots, accuracy = (np.asarray(part, np.float64) for part in (fit.X_thresholds_, fit.y_thresholds_))
    return Isotonic(knots, np.clip(accuracy, 0.0, 1.0))
