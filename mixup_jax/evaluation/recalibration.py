"""Vector scaling and isotonic regression: fitted on the validation record and applied to every record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mixup_jax.errors import unknown_name
from mixup_jax.metrics.examined import Examined, examine, joined
from mixup_jax.metrics.logits import blocks
from mixup_jax.metrics.posthoc import Isotonic, VectorScaling, fit_isotonic, fit_vector_scaling
from mixup_jax.runs.records import Predictions

POSTHOC = ("vector_scaling", "isotonic")


class Recalibration(NamedTuple):
    """The fitted methods; None for a method that was not requested."""

    vector_scaling: VectorScaling | None
    isotonic: Isotonic | None

    def as_json(self) -> dict[str, Any]:
        """Returns the fitted numbers by method, for evaluation.json."""
        return {
            name: {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(fit).items()}
            for name, fit in self._asdict().items()
            if fit is not None
        }


def check_posthoc(names: Sequence[str]) -> None:
    """Raises InputError for a name that is not in POSTHOC."""
    for name in names:
        if name not in POSTHOC:
            raise unknown_name("post-hoc method", name, POSTHOC)


def fit_recalibration(validation: Predictions, examples: Examined, methods: Sequence[str]) -> Recalibration:
    """Returns the given methods of POSTHOC, fitted on a validation record in which all examples have labels."""
    check_posthoc(methods)
    return Recalibration(
        fit_vector_scaling(validation.logits, validation.labels) if "vector_scaling" in methods else None,
        fit_isotonic(examples.confidence, examples.correct) if "isotonic" in methods else None,
    )


def vector_scaled(predictions: Predictions, scaling: VectorScaling) -> Examined:
    """Returns `examine` of the scaled logits, computed a block of rows at a time."""
    return joined(
        [
            examine(scaling.apply(predictions.logits[rows]), predictions.labels[rows])
            for rows in blocks(*predictions.logits.shape)
        ]
    )
