"""More recalibration fitted on validation data: affine maps of all log-probabilities, and maps of the confidence.

Every `fit_...` says which data it takes.  What it returns has `apply`, which takes logits `[N, K]` and returns
recalibrated ones, or takes confidences `[N]` and returns recalibrated ones.  They need SciPy.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import check_confidences
from mixup_jax.metrics.softmax import Bools, Floats, Ints, check_labelled, log_softmax
from mixup_jax.metrics.temperature import fit_temperature

_STEPS, _FEWEST_STEPS, _FEWEST_OF_WIDE, _WIDE = 1000, 100, 20, 300
_WORK = 5e9
"""The most steps of a fit are those that take `_WORK` products of a logit and a weight, about 2 s of a core, but at
least the fewest; those of wide are for more classes than `_WIDE`, where a step of a matrix takes a second."""
_KNOTS = 6
_LEAST = float(np.finfo(np.float32).eps)  # of a confidence whose logarithm is taken, and its distance from 1


@dataclass(frozen=True, eq=False)
class AffineMap:
    """The map z -> W l + b of l, the logarithms of softmax(z / temperature) mixed with the uniform distribution.

    Attributes:
      weights: float64 `[K, K]`, or `[K]` for a diagonal W.
      bias: float64 `[K]`.
      temperature: 1 where nothing is divided.
      uniform: the share of the uniform distribution in the mixture.
    """

    weights: Floats
    bias: Floats
    temperature: float = 1.0
    uniform: float = 0.0

    def apply(self, logits: npt.ArrayLike) -> Floats:
        """Returns recalibrated logits, float64 `[N, K]`."""
        given = _mixed(logits, self.temperature, self.uniform)
        if given.shape[1] != len(self.bias):
            raise InputError(
                f"logits have {given.shape[1]} classes; expected {len(self.bias)}, as the map was fitted on"
            )
        scaled = given * self.weights if self.weights.ndim == 1 else given @ self.weights.T
        found: Floats = scaled + self.bias
        return found


def _mixed(logits: npt.ArrayLike, temperature: float, uniform: float) -> Floats:
    """Returns log((1 - uniform) softmax(logits / temperature) + uniform / K), finite."""
    logs = log_softmax(np.asarray(logits, np.float64) / temperature)
    if uniform:
        logs = np.logaddexp(np.log1p(-uniform) + logs, np.log(uniform / logs.shape[1]))
    found: Floats = np.maximum(logs, np.log(np.finfo(np.float32).tiny))
    return found


def fit_svs(logits: npt.ArrayLike, labels: npt.ArrayLike) -> AffineMap:
    """Returns structured vector scaling: after the best temperature, (1 + v) l + b with v and b drawn towards 0.

    The NLL plus K/n (|v|^2 + |b|^2) is minimised; it is convex.  Source: Berta et al. (2025, arXiv:2511.03685) and
    probmetrics, with its default numbers: the temperature's probabilities are mixed with 1/(n + 1) of the uniform.
    """
    return _structured(logits, labels, whole=False)


def fit_sms(logits: npt.ArrayLike, labels: npt.ArrayLike) -> AffineMap:
    """Returns structured matrix scaling: as `fit_svs`, with weights M off the diagonal and K (K - 1)/n |M|^2 more."""
    return _structured(logits, labels, whole=True)


def _structured(logits: npt.ArrayLike, labels: npt.ArrayLike, *, whole: bool) -> AffineMap:
    checked, classes = check_labelled(logits, labels)
    n, k = checked.shape
    temperature, uniform = fit_temperature(checked, classes), 1 / (n + 1)
    given = _mixed(checked, temperature, uniform)
    weights, bias = _fit_affine(given, classes, diagonal=k / n, off=k * (k - 1) / n if whole else None, of_bias=k / n)
    return AffineMap(weights, bias, temperature, uniform)


def fit_dirichlet(logits: npt.ArrayLike, labels: npt.ArrayLike, penalty: float = 1e-2) -> AffineMap:
    """Returns Dirichlet calibration, W log p + b, with the penalty "ODIR" of Kull et al. (2019).

    The NLL plus penalty times the mean square of the weights off the diagonal, plus penalty times that of b, is
    minimised.  Kull et al. choose both factors by cross-validation; here they are given.  With many classes and few
    examples the minimum is far away: the fit ends after 1,000 steps, or after 5e9 / (n K^2) where that is less, but not
    before 100 (20 for more than 300 classes).
    """
    checked, classes = check_labelled(logits, labels)
    k = checked.shape[1]
    given = _mixed(checked, 1.0, 0.0)
    weights, bias = _fit_affine(given, classes, diagonal=0.0, off=penalty / (k * (k - 1)), of_bias=penalty / k)
    return AffineMap(weights, bias)


def _fit_affine(
    given: Floats, labels: Ints, *, diagonal: float, off: float | None, of_bias: float
) -> tuple[Floats, Floats]:
    """Returns W and b of least mean NLL of softmax(W given + b) plus penalties of W - I and b; no `off`: W is a vector.

    The steps are L-BFGS's, in units of the curvature along each parameter, without which they would be thousands.
    """
    from scipy.optimize import minimize

    n, k = given.shape
    rows, shape = np.arange(n), (k, k) if off is not None else (k,)
    penalty = np.full(shape, diagonal if off is None else off)
    if off is not None:
        np.fill_diagonal(penalty, diagonal)
    start = np.exp(given)
    spread = start * (1 - start)
    curvature = np.square(given).T @ spread if off is not None else np.einsum("nk,nk->k", np.square(given), spread)
    unit = 1 / np.sqrt(curvature.T / n + 2 * penalty + 1e-8)
    unit_of_bias = 1 / np.sqrt(spread.mean(axis=0) + 2 * of_bias + 1e-8)

    def parts(parameters: Floats) -> tuple[Floats, Floats]:
        return parameters[:-k].reshape(shape) * unit, parameters[-k:] * unit_of_bias

    def loss(parameters: Floats) -> tuple[float, Floats]:
        change, bias = parts(parameters)
        after = log_softmax(given + (given * change if off is None else given @ change.T) + bias)
        value = -after[rows, labels].mean() + (penalty * change**2).sum() + of_bias * (bias**2).sum()
        residual = np.exp(after)
        residual[rows, labels] -= 1.0
        of_weights = np.einsum("nk,nk->k", residual, given) if off is None else residual.T @ given
        slope = (of_weights / n + 2 * penalty * change) * unit
        slope_of_bias = (residual.mean(axis=0) + 2 * of_bias * bias) * unit_of_bias
        return float(value), np.concatenate([slope.ravel(), slope_of_bias])

    fewest = _FEWEST_STEPS if k <= _WIDE else _FEWEST_OF_WIDE
    steps = max(fewest, min(_STEPS, int(_WORK / (n * penalty.size))))
    options = {"maxiter": steps, "maxfun": 2 * steps, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20}
    found = minimize(loss, np.zeros(penalty.size + k), jac=True, method="L-BFGS-B", options=options)
    change, bias = parts(found.x)
    return (1.0 + change if off is None else np.eye(k) + change), bias


@dataclass(frozen=True, eq=False)
class EnsembleTemperature:
    """The map z -> log(w_1 softmax(z / T) + w_2 softmax(z) + w_3 / K).

    Attributes:
      temperature: T.
      weights: float64 `[3]`, at least 0, of sum 1.
    """

    temperature: float
    weights: Floats

    def apply(self, logits: npt.ArrayLike) -> Floats:
        """Returns log-probabilities, float64 `[N, K]`."""
        given = np.asarray(logits, np.float64)
        parts = np.exp([log_softmax(given / self.temperature), log_softmax(given)])
        with np.errstate(divide="ignore"):
            found: Floats = np.log(
                self.weights[0] * parts[0] + self.weights[1] * parts[1] + self.weights[2] / given.shape[1]
            )
        return found


def fit_ensemble_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> EnsembleTemperature:
    """Returns ensemble temperature scaling: the temperature, then the weights of least NLL (Zhang et al. 2020).

    The NLL is convex in the weights; they are found by expectation-maximisation, which never raises it and starts near
    the temperature alone.
    """
    checked, classes = check_labelled(logits, labels)
    n, k = checked.shape
    temperature = fit_temperature(checked, classes)
    own = [log_softmax(checked.astype(np.float64) / scale)[np.arange(n), classes] for scale in (temperature, 1.0)]
    p = np.column_stack([*np.exp(own), np.full(n, 1 / k)])
    weights = np.array([0.98, 0.01, 0.01])
    for _ in range(2000):
        shares = p * weights
        better = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(better - weights).max() < 1e-9:
            break
        weights = better
    alone = np.array([1.0, 0.0, 0.0])
    with np.errstate(divide="ignore"):
        best = max(weights, alone, key=lambda w: float(np.log(p @ w).sum()))
    return EnsembleTemperature(temperature, best)


@dataclass(frozen=True, eq=False)
class BetaMap:
    """The map c -> sigmoid(a log c - b log(1 - c) + offset) of the confidence of the predicted class."""

    a: float
    b: float
    offset: float

    def apply(self, confidence: npt.ArrayLike) -> Floats:
        """Returns recalibrated confidences, float64 `[N]`."""
        return 1 / (1 + np.exp(-(_beta_terms(confidence) @ [self.a, self.b, self.offset])))


def _beta_terms(confidence: npt.ArrayLike) -> Floats:
    c = np.clip(np.asarray(confidence, np.float64), _LEAST, 1 - _LEAST)
    return np.column_stack([np.log(c), -np.log1p(-c), np.ones(len(c))])


def fit_beta(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> BetaMap:
    """Returns beta calibration of the confidence: a, b >= 0 and the offset of least NLL (Kull et al. 2017)."""
    from scipy.optimize import minimize

    terms, outcomes = _checked(confidence, correct)
    given = _beta_terms(terms)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = given @ parameters
        slope = given.T @ (1 / (1 + np.exp(-z)) - outcomes) / len(z)
        return float((np.logaddexp(0, z) - outcomes * z).mean()), slope

    bounds = [(0, 100), (0, 100), (-100, 100)]
    found = minimize(loss, np.array([1.0, 1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds)
    return BetaMap(*map(float, found.x))


@dataclass(frozen=True, eq=False)
class Histogram:
    """A map of the confidence that is constant between its edges.

    Attributes:
      upper: float64 `[M]`, ascending: where each bin ends and the next begins; the last bin has no end.
      accuracy: float64 `[M]`.
    """

    upper: Floats
    accuracy: Floats

    def apply(self, confidence: npt.ArrayLike) -> Floats:
        """Returns recalibrated confidences, float64 `[N]`."""
        place = np.searchsorted(self.upper[:-1], np.asarray(confidence, np.float64), side="right")
        found: Floats = self.accuracy[place]
        return found


def fit_histogram(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> Histogram:
    """Returns the accuracy of each of the bins of equal mass, from quantile to quantile (Zadrozny & Elkan 2001).

    Equal confidences share a bin.  A bin without an example, of which there are some where examples are fewer than
    bins, has the accuracy of all.
    """
    given, outcomes = _checked(confidence, correct)
    edges = np.unique(np.quantile(given, np.linspace(0, 1, n_bins + 1)))
    place = np.searchsorted(edges[1:-1], given, side="right")
    count = np.bincount(place, minlength=max(len(edges) - 1, 1))
    accuracy = np.full(len(count), outcomes.mean())
    np.divide(np.bincount(place, outcomes, len(count)), count, out=accuracy, where=count > 0)
    return Histogram(edges[-len(count) :], accuracy)


@dataclass(frozen=True, eq=False)
class SplineMap:
    """A map of the confidence, linear between its knots and constant outside them, with values in [0, 1].

    Attributes:
      confidence: float64 `[J]`, ascending.
      accuracy: float64 `[J]`.
    """

    confidence: Floats
    accuracy: Floats

    def apply(self, confidence: npt.ArrayLike) -> Floats:
        """Returns recalibrated confidences, float64 `[N]`."""
        return np.interp(np.asarray(confidence, np.float64), self.confidence, self.accuracy).astype(np.float64)


def fit_spline(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> SplineMap:
    """Returns spline calibration of the confidence (Gupta et al. 2021).

    A natural cubic spline with 6 knots is fitted to the sum over the t N least confident examples of correctness less
    confidence, divided by N, as a function of t; its slope at t is the accuracy less the confidence there.  This is the
    authors' code; values outside [0, 1] are cut off, and equal confidences have one accuracy.
    """
    given, outcomes = _checked(confidence, correct)
    order = np.argsort(given, kind="stable")
    ascending = given[order]
    t = np.linspace(0, 1, len(given))
    values, slopes = natural_spline_terms(t, np.linspace(0, 1, _KNOTS))
    weights = np.linalg.lstsq(values, (outcomes[order] - ascending).cumsum() / len(given), rcond=None)[0]
    # Equal confidences have one accuracy, the mean of those there.
    distinct, place, count = np.unique(ascending, return_inverse=True, return_counts=True)
    accuracy = np.bincount(place, slopes @ weights + ascending) / count
    return SplineMap(distinct, np.clip(accuracy, 0.0, 1.0))


def natural_spline_terms(t: Floats, knots: Floats) -> tuple[Floats, Floats]:
    """Returns the terms of natural cubic splines with these knots, and their derivatives, `[N, J]` each.

    Hastie, Tibshirani & Friedman, *The Elements of Statistical Learning*, eq. 5.4 and 5.5.
    """
    above = np.maximum(t[:, None] - knots, 0.0)
    cubes, squares = above**3, 3 * above**2
    terms = []
    for power in (cubes, squares):
        relative = (power[:, :-1] - power[:, -1:]) / (knots[-1] - knots[:-1])
        terms.append(relative[:, :-1] - relative[:, -1:])
    one = np.ones(len(t))
    return np.column_stack([one, t, terms[0]]), np.column_stack([0 * one, one, terms[1]])


def _checked(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Bools]:
    given, outcomes = check_confidences(confidence, correct)
    if not len(given):
        raise InputError("confidence holds no examples; expected at least one")
    return given, outcomes
