"""Vector scaling and isotonic regression: recalibration that is fitted on validation data."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import check_confidences
from mixup_jax.metrics.logits import blocks
from mixup_jax.metrics.softmax import Floats, check_labelled, log_softmax
from mixup_jax.metrics.temperature import fit_temperature

FURTHEST = 100.0
_MOST_STEPS = 2000
_FLAT = 1e-5  # of the gradient, per parameter and nat


@dataclass(frozen=True, eq=False)
class VectorScaling:
    """The map z -> w * log softmax(z) + b, class by class.

    Attributes:
      weights: float64 `[K]`.
      bias: float64 `[K]`.
      converged: whether the fit reached a minimum before the limit on its steps.
    """

    weights: Floats
    bias: Floats
    converged: bool = True

    def apply(self, logits: npt.ArrayLike) -> Floats:
        """Returns the scaled logits, float64 `[N, K]`; an impossible class (-inf) stays impossible."""
        return _scaled(log_softmax(logits), self.weights, self.bias)


def fit_vector_scaling(logits: npt.ArrayLike, labels: npt.ArrayLike) -> VectorScaling:
    """Returns the weights and biases that minimise the NLL of `softmax(w * log softmax(z) + b)`.

    This is the vector scaling of Guo et al. (2017, section 4.2; W is a diagonal matrix), applied to
    log-probabilities as in Kull et al. (2019).  Guo et al. scale the logits, so that their result depends on a
    constant added to a row, which softmax ignores.  The NLL is convex and L-BFGS starts from the best
    temperature, so **the NLL on these data is never above that of temperature scaling**, nor above that of the
    unscaled logits.  Unlike a temperature it changes predictions, and its 2 K parameters can over-fit: there is
    no regularisation.

    Edge cases: weights and biases stay within [-100, 100], so that a minimum exists for separable data and for
    classes without an example (their bias tends to the lower bound).  An example whose true class is impossible
    is left out.

    Fit it on validation data, never on the data to be reported.
    """
    from scipy.optimize import minimize

    checked_logits, checked_labels = check_labelled(logits, labels)
    classes = checked_logits.shape[1]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        return _loss(checked_logits, checked_labels, parameters[:classes], parameters[classes:])

    as_they_are = np.concatenate([np.ones(classes), np.zeros(classes)])
    temperature = fit_temperature(checked_logits, checked_labels)
    start = np.concatenate([np.full(classes, 1 / temperature), np.zeros(classes)])
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-FURTHEST, FURTHEST)] * (2 * classes),
        options={"maxiter": _MOST_STEPS, "maxfun": 2 * _MOST_STEPS, "ftol": 0.0, "gtol": _FLAT / 10, "maxcor": 20},
    )
    best = min((found.x, start, as_they_are), key=lambda parameters: loss(parameters)[0])
    return VectorScaling(best[:classes].copy(), best[classes:].copy(), _is_minimum(best, loss(best)[1]))


def _is_minimum(parameters: Floats, gradient: Floats) -> bool:
    """Returns whether no step within the bounds lowers the loss."""
    inward = np.clip(parameters - gradient, -FURTHEST, FURTHEST) - parameters
    return bool(np.abs(inward).max() <= _FLAT)


def _scaled(log_probabilities: Floats, weights: Floats, bias: Floats) -> Floats:
    if log_probabilities.shape[1] != len(weights):
        raise InputError(
            f"logits have {log_probabilities.shape[1]} classes; expected {len(weights)}, as the scaling was fitted on"
        )
    impossible = np.isneginf(log_probabilities)
    scaled: Floats = np.where(impossible, 0.0, log_probabilities) * weights + bias
    scaled[impossible] = -np.inf
    return scaled


def _loss(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], weights: Floats, bias: Floats
) -> tuple[float, Floats]:
    """Returns the mean NLL over the examples whose true class is possible, and its gradient, `[2 K]`."""
    total, count = 0.0, 0
    gradient = np.zeros((2, len(weights)))
    for rows in blocks(*logits.shape):
        before = log_softmax(logits[rows])
        possible = np.isfinite(before[np.arange(len(before)), labels[rows]])
        if not possible.any():
            continue
        before, true = before[possible], labels[rows][possible]
        row = np.arange(len(before))
        after = log_softmax(_scaled(before, weights, bias))
        total -= float(after[row, true].sum())
        count += len(before)
        residual = np.exp(after)
        residual[row, true] -= 1.0
        gradient[0] += np.einsum("nk,nk->k", residual, np.where(np.isneginf(before), 0.0, before))
        gradient[1] += residual.sum(axis=0)
    return total / max(count, 1), gradient.ravel() / max(count, 1)


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A non-decreasing map of confidences: linear between its knots, constant outside them.

    Attributes:
      confidence: float64 `[J]`, ascending, J >= 1: the knots.
      accuracy: float64 `[J]`, ascending, in [0, 1]: the values of the map at the knots.
    """

    confidence: Floats
    accuracy: Floats

    def apply(self, confidence: npt.ArrayLike) -> Floats:
        """Returns the recalibrated confidences, float64 `[N]` in [0, 1]."""
        given, _ = check_confidences(confidence, np.zeros(np.shape(confidence), bool))
        return np.interp(given, self.confidence, self.accuracy).astype(np.float64)


def fit_isotonic(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> Isotonic:
    """Returns the non-decreasing map from confidence to accuracy of least squared error (Zadrozny & Elkan, 2002).

    It maps **only the confidence of the predicted class**.  Predictions do not change, and the other classes get
    no probability, so NLL and Brier score of all classes are undefined after it.  The fit is SciPy's
    `isotonic_regression`, of equal confidences as one.

    Fit it on validation data, never on the data to be reported.
    """
    given, outcomes = check_confidences(confidence, correct)
    if not len(given):
        raise InputError("confidence holds no examples; expected at least one")
    from scipy.optimize import isotonic_regression

    knots, place, count = np.unique(given, return_inverse=True, return_counts=True)
    accuracy = isotonic_regression(np.bincount(place, outcomes) / count, weights=count).x
    steps = np.diff(accuracy) != 0
    ends = np.append(True, steps) | np.append(steps, True)  # what lies inside a level is on the line
    return Isotonic(knots[ends], accuracy[ends])
