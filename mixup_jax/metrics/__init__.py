"""Calibration, proper scores and out-of-distribution detection as pure functions of numpy arrays.

Everything here computes in float64 and loads numpy only.  Numbers are fractions, never percent.
"""

from mixup_jax.metrics.calibration import Bins, bin_confidences, confidence_minus_accuracy, ece, mce, oe
from mixup_jax.metrics.examples import Examples, examine
from mixup_jax.metrics.intervals import (
    Difference,
    Interval,
    NoiseFloor,
    bootstrap_intervals,
    noise_floor,
    paired_bootstrap_auroc_difference,
    paired_bootstrap_differences,
)
from mixup_jax.metrics.isotonic import Isotonic, fit_isotonic
from mixup_jax.metrics.ood import aupr_in, aupr_out, auroc, auroc_interval, fpr95_id, fpr95_ood
from mixup_jax.metrics.ood_scores import energy_score, entropy_score, max_logit_score
from mixup_jax.metrics.posthoc import fit_temperature, scale
from mixup_jax.metrics.proper import brier, nll
from mixup_jax.metrics.scores import confidence_and_correct, log_softmax, max_probability, msp_score
from mixup_jax.metrics.selective import RiskCoverage, accuracy_at_coverage, aurc, e_aurc, risk_coverage
from mixup_jax.metrics.streaming import Tally, tally, tally_examples
from mixup_jax.metrics.vector_scaling import VectorScaling, fit_vector_scaling

__all__ = [
    "Bins",
    "Difference",
    "Examples",
    "Interval",
    "Isotonic",
    "NoiseFloor",
    "RiskCoverage",
    "Tally",
    "VectorScaling",
    "accuracy_at_coverage",
    "aupr_in",
    "aupr_out",
    "aurc",
    "auroc",
    "auroc_interval",
    "bin_confidences",
    "bootstrap_intervals",
    "brier",
    "confidence_and_correct",
    "confidence_minus_accuracy",
    "e_aurc",
    "ece",
    "energy_score",
    "entropy_score",
    "examine",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector_scaling",
    "fpr95_id",
    "fpr95_ood",
    "log_softmax",
    "max_logit_score",
    "max_probability",
    "mce",
    "msp_score",
    "nll",
    "noise_floor",
    "oe",
    "paired_bootstrap_auroc_difference",
    "paired_bootstrap_differences",
    "risk_coverage",
    "scale",
    "tally",
    "tally_examples",
]
