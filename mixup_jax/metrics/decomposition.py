"""What a Brier score is made of: reliability, resolution, uncertainty, and what happens within bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.calibration import bin_edges, check_confidences, equal_width_index
from mixup_jax.metrics.classwise import class_cells
from mixup_jax.metrics.scores import Bools, Floats, Ints, check_all_labelled


class BrierDecomposition(NamedTuple):
    """`brier = reliability - resolution + uncertainty + within_bin_variance - within_bin_covariance`.

    Attributes:
      brier: the score itself.
      reliability: squared miscalibration, 0 if perfectly calibrated; the square of ECE with norm "l2".
      resolution: how much the accuracy differs from bin to bin; more is better.
      uncertainty: the score of always predicting the base rate; a property of the data, not of the network.
      within_bin_variance: of the confidences in a bin around their mean.
      within_bin_covariance: twice the covariance of confidence and outcome in a bin.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin_variance: float
    within_bin_covariance: float


def brier_decomposition(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> BrierDecomposition:
    """Returns the parts of `mean_i (confidence_i - correct_i)^2`, the Brier score of the event "it is right".

    Top-label: this is the score of one binary event, in [0, 1], not the `brier` of all classes; see
    `brier_decomposition_of_classes` for that.  With n_m, conf_m, acc_m of equally wide bins and acc overall:

      reliability = sum_m n_m/n (conf_m - acc_m)^2;  resolution = sum_m n_m/n (acc_m - acc)^2;
      uncertainty = acc (1 - acc)

    (Murphy, 1973).  These alone add up only if all confidences in a bin are equal; with the two
    within-bin terms of Stephenson, Coelho & Jolliffe (2008) they always do.

    Args:
      confidence: `[N]` in [0, 1], N >= 1.
      correct: bool `[N]`.
      n_bins: M >= 1.

    Raises:
      InputError: an argument is malformed, or there are no examples.
    """
    confidences, outcomes = check_confidences(confidence, correct)
    if len(confidences) == 0:
        raise InputError("confidence holds no examples; expected at least one")
    edges = bin_edges(n_bins)
    return _decomposed(_sums(confidences, outcomes, equal_width_index(confidences, edges), n_bins))


def brier_decomposition_of_classes(
    logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = 15
) -> BrierDecomposition:
    """Returns the parts of `brier(logits, labels)`, each summed over the K events "it is class k".

    Full-vector: the probability of every class is binned, not only the largest.  `brier` is in [0, 2].

    Args:
      logits: floating point `[N, K]`.
      labels: integer `[N]` in [0, K).
      n_bins: M >= 1.

    Raises:
      InputError: the arrays are malformed or an example has no label.
    """
    checked, edges = check_all_labelled(logits, labels), bin_edges(n_bins)
    classes = np.shape(logits)[1]
    sums = np.zeros((5, classes * n_bins))
    for probability, outcome, cell in class_cells(logits, checked, edges):
        sums += _sums(probability.ravel(), outcome.ravel(), cell.ravel(), classes * n_bins)
    parts = np.array([_decomposed(sums[:, k * n_bins : (k + 1) * n_bins]) for k in range(classes)])
    return BrierDecomposition(*(float(part) for part in parts.sum(axis=0)))


def _sums(forecast: Floats, outcome: Bools, cell: Ints, cells: int) -> Floats:
    """Returns, `[5, cells]`: count, and the sums of f, o, f^2 and f o, of forecasts f and outcomes o in each cell."""
    weights = (None, forecast, outcome, np.square(forecast), forecast * outcome)
    return np.stack([np.bincount(cell, weight, minlength=cells) for weight in weights]).astype(np.float64)


def _decomposed(sums: Floats) -> BrierDecomposition:
    count, forecast, outcome, squares, products = sums[:, sums[0] > 0]
    n = count.sum()
    base_rate = outcome.sum() / n
    parts = (
        (squares - 2.0 * products + outcome).sum(),
        (np.square(forecast - outcome) / count).sum(),
        (count * np.square(outcome / count - base_rate)).sum(),
        n * base_rate * (1.0 - base_rate),
        # A sum of squares less the square of a sum may round to just below 0.
        np.maximum(squares - np.square(forecast) / count, 0.0).sum(),
        2.0 * (products - forecast * outcome / count).sum(),
    )
    return BrierDecomposition(*(float(part / n) for part in parts))
