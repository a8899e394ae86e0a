"""Calibration, proper scores and out-of-distribution detection as pure functions of numpy arrays.

Everything here computes in float64 and loads numpy only.  Numbers are fractions, never percent.
"""

from mixup_jax.metrics.adaptive import adaptive_ece, bin_equal_mass
from mixup_jax.metrics.calibration import (
    Bins,
    Direction,
    bin_confidences,
    confidence_minus_accuracy,
    ece,
    ece_direction,
    mce,
    oe,
)
from mixup_jax.metrics.classwise import bin_classes, classwise_ece, tace
from mixup_jax.metrics.debiased import debiased_ece
from mixup_jax.metrics.decomposition import BrierDecomposition, brier_decomposition, brier_decomposition_of_classes
from mixup_jax.metrics.intervals import (
    NoiseFloor,
    bootstrap_classwise_ece,
    bootstrap_intervals,
    noise_floor,
    paired_bootstrap_auroc_difference,
    paired_bootstrap_differences,
)
from mixup_jax.metrics.ood import aupr_in, aupr_out, auroc, fpr95_id, fpr95_ood
from mixup_jax.metrics.posthoc import fit_temperature, scale
from mixup_jax.metrics.proper import brier, brier_of_each, nll, nll_of_each
from mixup_jax.metrics.resampling import Difference, Interval
from mixup_jax.metrics.scores import confidence_and_correct, log_softmax, max_probability, msp_score
from mixup_jax.metrics.smooth import smooth_ece

__all__ = [
    "Bins",
    "BrierDecomposition",
    "Difference",
    "Direction",
    "Interval",
    "NoiseFloor",
    "adaptive_ece",
    "aupr_in",
    "aupr_out",
    "auroc",
    "bin_classes",
    "bin_confidences",
    "bin_equal_mass",
    "bootstrap_classwise_ece",
    "bootstrap_intervals",
    "brier",
    "brier_decomposition",
    "brier_decomposition_of_classes",
    "brier_of_each",
    "classwise_ece",
    "confidence_and_correct",
    "confidence_minus_accuracy",
    "debiased_ece",
    "ece",
    "ece_direction",
    "fit_temperature",
    "fpr95_id",
    "fpr95_ood",
    "log_softmax",
    "max_probability",
    "mce",
    "msp_score",
    "nll",
    "nll_of_each",
    "noise_floor",
    "oe",
    "paired_bootstrap_auroc_difference",
    "paired_bootstrap_differences",
    "scale",
    "smooth_ece",
    "tace",
]
