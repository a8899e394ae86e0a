"""Evaluation of files of one number an example, a confidence or an OOD score, where the logits were not kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.evaluation.measure import SCHEMA
from mixup_jax.metrics.binning import check_confidences
from mixup_jax.metrics.measuring import Given, separation, top_label
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT
from mixup_jax.runs.formats import load_vectors

NAMES = {
    "confidence": ("confidence", "confidences", "conf", "msp", "max_prob"),
    "score": ("score", "scores", "ood_score"),
    "correct": ("correct", "is_correct", "hit"),
}
"""What a file may hold, with the names that are tried: confidences in [0, 1]; scores, higher = more foreign; whether
each prediction is correct."""


class Scores(NamedTuple):
    """The numbers of N examples.

    Attributes:
      kind: "confidence" or "score".
      foreign: float64 `[N]`, higher = more foreign: the score, or 1 - confidence.
      confidence: float64 `[N]` in [0, 1], or None.
      correct: bool `[N]`, or None.
    """

    kind: str
    foreign: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64] | None
    correct: npt.NDArray[np.bool_] | None


def load_scores(path: Path, limit: int = DEFAULT_LIMIT) -> Scores:
    """Returns the numbers of a file in a format of `load_predictions`; an `.npy` holds confidences.

    Raises:
      InputError: the file is missing, damaged or holds neither, or a number is not what its name says.
    """
    found = load_vectors(path, NAMES, alone="confidence", limit=limit)
    try:
        return _checked(found)
    except InputError as error:
        raise InputError(f"predictions file {path}: {error}") from error


def _checked(found: Mapping[str, npt.NDArray[Any]]) -> Scores:
    kind = "confidence" if "confidence" in found else "score"
    if kind not in found:
        raise InputError("neither confidence nor score is there; expected one of them")
    values = np.asarray(found[kind])
    if values.ndim != 1 or not len(values) or values.dtype.kind not in "fiu":
        raise InputError(
            f"{kind} has shape {list(values.shape)} and dtype {values.dtype}; expected numbers [N], one an example"
        )
    numbers = values.astype(np.float64)
    if np.isnan(numbers).any():
        raise InputError(f"{kind} is NaN for example {int(np.isnan(numbers).argmax())}; expected a number")
    if kind == "score":
        return Scores(kind, numbers, None, None)
    outcomes = found.get("correct", np.zeros(len(numbers), bool))
    confidence, correct = check_confidences(numbers, outcomes)
    return Scores(kind, 1.0 - confidence, confidence, correct if "correct" in found else None)


def evaluate_scores(
    test: Scores, name: str, ood: Mapping[str, Scores], *, all_intervals: bool = False
) -> dict[str, Any]:
    """Returns the evaluation of `measure.evaluate_records` as far as it needs no logits.

    `results` is empty unless the test file says which predictions are correct; `ood` has one score.

    Raises:
      InputError: there is nothing to measure, or the sets have different kinds of numbers.
    """
    if not ood and test.correct is None:
        raise InputError(f"{name} holds no `correct`, and no other set is given; expected one of them (--ood=O.npz)")
    for other, scores in ood.items():
        if scores.kind != test.kind:
            raise InputError(f"{other} holds {scores.kind}, {name} {test.kind}; expected the same in all files")
    unscaled = {"temperature": None, "after_temperature": None}
    results = {}
    if test.confidence is not None and test.correct is not None:
        given = Given({"confidence": test.confidence, "correct": test.correct})
        results[name] = {**top_label(given, slow=all_intervals), "unlabelled": 0, **unscaled, "posthoc": {}}
    return {
        "schema": SCHEMA,
        "step": None,
        "config": None,
        "temperature_fitted_on": None,
        "posthoc": {},
        "results": results,
        "ood": {
            other: {
                "score": test.kind,
                "n_in": len(test.foreign),
                "n_out": len(scores.foreign),
                **separation(test.foreign, scores.foreign, slow=all_intervals),
                **({} if scores.confidence is None else {"mean_confidence": float(scores.confidence.mean())}),
                "scores": {},
                **unscaled,
            }
            for other, scores in ood.items()
        },
    }
