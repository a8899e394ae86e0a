"""The table of post-hoc calibrations: fitted on the validation record, applied to every record, and compared."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics.examined import Examined, examine, joined
from mixup_jax.metrics.logits import blocks
from mixup_jax.metrics.posthoc import fit_isotonic, fit_vector_scaling
from mixup_jax.metrics.proper import nll_of_each
from mixup_jax.metrics.recalibrators import (
    fit_beta,
    fit_dirichlet,
    fit_ensemble_temperature,
    fit_histogram,
    fit_sms,
    fit_spline,
    fit_svs,
)
from mixup_jax.metrics.resampling import bootstrap_interval_of
from mixup_jax.metrics.softmax import Floats, confidence_and_correct
from mixup_jax.metrics.temperature import fit_temperature, scale
from mixup_jax.runs.records import Predictions

FOLDS = 5
MOST_CLASSES = 200
"""Of more classes, matrices are not fitted again for every fold."""
MOST_NUMBERS = 10_000
"""Larger arrays of what was fitted are not written."""


class Posthoc(NamedTuple):
    """A post-hoc calibration.

    Attributes:
      label: its name in tables and on the page.
      fit: takes logits and labels, or confidence and correct; what it returns has `apply`.
      of_logits: which of the two; a method of the confidence changes that of the predicted class alone.
      fields: what is written of the fit.
      matrix: whether its parameters are as many as the square of the classes.
    """

    label: str
    fit: Callable[[Any, Any], Any]
    of_logits: bool
    fields: str
    matrix: bool = False


_AFFINE = "`weights`, `bias`, `temperature`, `uniform`"
POSTHOC: Mapping[str, Posthoc] = {
    "vector_scaling": Posthoc("vector scaling", fit_vector_scaling, True, "`weights`, `bias`, `converged`"),
    "isotonic": Posthoc("isotonic", fit_isotonic, False, "`confidence`, `accuracy`"),
    "svs": Posthoc("SVS", fit_svs, True, _AFFINE),
    "sms": Posthoc("SMS", fit_sms, True, _AFFINE, matrix=True),
    "dirichlet": Posthoc("Dirichlet", fit_dirichlet, True, _AFFINE, matrix=True),
    "ensemble_temperature": Posthoc(
        "ensemble temperature", fit_ensemble_temperature, True, "`temperature`, `weights` of T, of 1 and of the uniform"
    ),
    "beta": Posthoc("beta", fit_beta, False, "`a`, `b`, `offset`"),
    "spline": Posthoc("spline", fit_spline, False, "`confidence`, `accuracy`"),
    "histogram": Posthoc("histogram", fit_histogram, False, "`upper`, `accuracy`"),
}
"""The methods by the name that `--posthoc` takes."""


class Recalibration(NamedTuple):
    """The fitted methods by name."""

    fits: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Returns the fitted numbers by method, for evaluation.json; arrays of more than MOST_NUMBERS are left out."""
        return {name: _written(vars(fit)) for name, fit in self.fits.items()}


def _written(fields: Mapping[str, Any]) -> dict[str, Any]:
    small = {key: value for key, value in fields.items() if np.size(value) <= MOST_NUMBERS}
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in small.items()}


def check_posthoc(names: Sequence[str]) -> None:
    """Raises InputError for a name that is not in POSTHOC."""
    for name in names:
        if name not in POSTHOC:
            raise unknown_name("post-hoc method", name, POSTHOC)


def fit_recalibration(validation: Predictions, examples: Examined, methods: Sequence[str]) -> Recalibration:
    """Returns the given methods of POSTHOC, fitted on a validation record in which all examples have labels."""
    check_posthoc(methods)
    of = {True: (validation.logits, validation.labels), False: (examples.confidence, examples.correct)}
    return Recalibration({name: row.fit(*of[row.of_logits]) for name, row in POSTHOC.items() if name in methods})


def recalibrated(predictions: Predictions, fit: Any) -> Examined:
    """Returns `examine` of the recalibrated logits, computed a block of rows at a time."""
    return joined(
        [
            examine(fit.apply(predictions.logits[rows]), predictions.labels[rows])
            for rows in blocks(*predictions.logits.shape)
        ]
    )


class _Temperature(NamedTuple):
    temperature: float

    def apply(self, logits: npt.ArrayLike) -> Floats:
        return scale(logits, self.temperature)


def compared(validation: Predictions, record: Predictions) -> dict[str, Any]:
    """Returns losses of all methods, cross-fitted on the validation examples, and on another record.

    Cross-fitted: each of 5 parts of the validation examples, with the classes in equal shares, is judged by what was
    fitted on the other four.  So methods with more parameters can be compared without the examples to be reported.

    Returns:
      `cross_fitted`: {method: {`nll`, `minus_temperature` (the NLL less that of temperature scaling, so below 0 is
      better), `intervals`: that of the difference, 95 %, by a paired bootstrap}}; `best`, the method of the lowest of
      these NLLs; and `here`: the same numbers of the record, of what was fitted on all validation examples.  Methods of
      the confidence have no NLL of all classes, so `cross_fitted_confidence`, `best_confidence` and `here_confidence`
      hold the same for the Brier score of being right, `brier_top_label`, of these and of all others.
    """
    makers: dict[str, tuple[Callable[[Any, Any], Any], bool]] = {
        "none": (lambda logits, labels: _Temperature(1.0), True),
        "temperature": (lambda logits, labels: _Temperature(fit_temperature(logits, labels)), True),
    }
    if len(validation.labels) < FOLDS:
        raise InputError(
            f"the extra analysis 'recalibration' has {len(validation.labels)} labelled validation examples; expected "
            f"at least {FOLDS}, one for each part of the cross-fitting"
        )
    wide = validation.logits.shape[1] > MOST_CLASSES
    makers |= {name: (row.fit, row.of_logits) for name, row in POSTHOC.items() if not (row.matrix and wide)}
    part = _parts(validation.labels)
    crossed, here = {}, {}
    for name, maker in makers.items():
        crossed[name] = np.empty((2, len(part)))
        for number in range(FOLDS):
            own, others = part == number, part != number
            judge = _judge(*maker, validation.logits[others], validation.labels[others])
            crossed[name][:, own] = judge(validation.logits[own], validation.labels[own])
        whole = _judge(*maker, validation.logits, validation.labels)
        here[name] = np.concatenate(
            [whole(record.logits[rows], record.labels[rows]) for rows in blocks(*record.logits.shape)], axis=1
        )
    found: dict[str, Any] = {}
    for place, (loss, suffix) in enumerate((("nll", ""), ("brier_top_label", "_confidence"))):
        names = [name for name, (_, of_logits) in makers.items() if of_logits or suffix]
        means = {name: float(crossed[name][place].mean()) for name in names}
        found[f"cross_fitted{suffix}"] = _beside_temperature({name: crossed[name][place] for name in names}, loss)
        found[f"best{suffix}"] = min(means, key=means.__getitem__)
        found[f"here{suffix}"] = _beside_temperature({name: here[name][place] for name in names}, loss)
    return found


def _judge(fit: Callable[[Any, Any], Any], of_logits: bool, logits: Any, labels: Any) -> Callable[[Any, Any], Floats]:
    """Returns a function from logits and labels to `[2, N]`: the NLL and Brier score of being right after the fit."""
    fitted = fit(logits, labels) if of_logits else fit(*confidence_and_correct(logits, labels))

    def judge(logits: Any, labels: Any) -> Floats:
        after = fitted.apply(logits) if of_logits else logits
        confidence, correct = confidence_and_correct(after, labels)
        if of_logits:
            return np.stack([nll_of_each(after, labels), np.square(confidence - correct)])
        return np.stack([np.full(len(labels), np.nan), np.square(fitted.apply(confidence) - correct)])

    return judge


def _parts(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Returns the part of each example, 0 .. FOLDS - 1, drawn at random within each class."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    part = np.empty(len(labels), np.int64)
    part[by_class] = np.arange(len(labels)) % FOLDS
    return part


def _beside_temperature(losses: Mapping[str, Floats], key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, loss in losses.items():
        mean = float(loss.mean())
        found[name] = {key: mean if math.isfinite(mean) else None}
        difference = loss - losses["temperature"]
        if name != "temperature" and np.isfinite(difference).all():
            interval = bootstrap_interval_of(lambda values: float(values.mean()), (difference,))
            found[name] |= {
                "minus_temperature": float(difference.mean()),
                "intervals": {"minus_temperature": list(map(float, interval))},
            }
    return found
