"""Calibration, proper scores and out-of-distribution detection as pure functions of numpy arrays.

Everything here computes in float64 and loads numpy only.  Numbers are fractions, never percent.
"""

from mixup_jax.metrics.calibration import Bins, bin_confidences, confidence_minus_accuracy, ece, mce, oe
from mixup_jax.metrics.intervals import (
    Difference,
    Interval,
    NoiseFloor,
    bootstrap_intervals,
    noise_floor,
    paired_bootstrap_auroc_difference,
    paired_bootstrap_differences,
)
from mixup_jax.metrics.ood import aupr_in, aupr_out, auroc, fpr95_id, fpr95_ood
from mixup_jax.metrics.posthoc import fit_temperature, scale
from mixup_jax.metrics.proper import brier, nll
from mixup_jax.metrics.scores import confidence_and_correct, log_softmax, max_probability, msp_score

__all__ = [
    "Bins",
    "Difference",
    "Interval",
    "NoiseFloor",
    "aupr_in",
    "aupr_out",
    "auroc",
    "bin_confidences",
    "bootstrap_intervals",
    "brier",
    "confidence_and_correct",
    "confidence_minus_accuracy",
    "ece",
    "fit_temperature",
    "fpr95_id",
    "fpr95_ood",
    "log_softmax",
    "max_probability",
    "mce",
    "msp_score",
    "nll",
    "noise_floor",
    "oe",
    "paired_bootstrap_auroc_difference",
    "paired_bootstrap_differences",
    "scale",
]
