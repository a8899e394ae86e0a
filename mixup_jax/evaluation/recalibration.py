"""Post-hoc calibration other than a temperature: fitted on the validation record, applied to every record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mixup_jax.errors import unknown_name
from mixup_jax.metrics.examined import Examined, examine, joined
from mixup_jax.metrics.logits import blocks
from mixup_jax.metrics.posthoc import Isotonic, VectorScaling, fit_isotonic, fit_vector_scaling
from mixup_jax.runs.records import Predictions

POSTHOC = ("vector_scaling", "isotonic")


class Recalibration(NamedTuple):
    """What was fitted; None where it was not asked for."""

    vector_scaling: VectorScaling | None
    isotonic: Isotonic | None

    def as_json(self) -> dict[str, Any]:
        """Returns the fitted numbers by method, as evaluation.json has them."""
        found: dict[str, Any] = {}
        if self.vector_scaling is not None:
            found["vector_scaling"] = {
                "weights": self.vector_scaling.weights.tolist(),
                "bias": self.vector_scaling.bias.tolist(),
                "converged": self.vector_scaling.converged,
            }
        if self.isotonic is not None:
            found["isotonic"] = {
                "confidence": self.isotonic.confidence.tolist(),
                "accuracy": self.isotonic.accuracy.tolist(),
            }
        return found


def check_posthoc(names: Sequence[str]) -> None:
    """Raises InputError for a name that is not in POSTHOC."""
    for name in names:
        if name not in POSTHOC:
            raise unknown_name("post-hoc method", name, POSTHOC)


def fit_recalibration(validation: Predictions, examples: Examined, methods: Sequence[str]) -> Recalibration:
    """Returns these methods of POSTHOC, fitted on a validation record whose examples all have labels."""
    check_posthoc(methods)
    return Recalibration(
        fit_vector_scaling(validation.logits, validation.labels) if "vector_scaling" in methods else None,
        fit_isotonic(examples.confidence, examples.correct) if "isotonic" in methods else None,
    )


def vector_scaled(predictions: Predictions, scaling: VectorScaling) -> Examined:
    """Returns what `examine` says of the scaled logits, a block of rows at a time."""
    return joined(
        [
            examine(scaling.apply(predictions.logits[rows]), predictions.labels[rows])
            for rows in blocks(*predictions.logits.shape)
        ]
    )
