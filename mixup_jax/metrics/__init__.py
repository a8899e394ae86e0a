"""Calibration, proper scores and out-of-distribution detection as pure functions of numpy arrays.

Everything here computes in float64.  Importing it loads numpy only; numba, which compiles the loops behind confidences
and bins, is loaded by the first call that needs them.
Numbers are fractions, never percent.

Arguments of one name are the same everywhere, and malformed ones raise InputError:

  logits       floating point `[N, K]`, N >= 1, K >= 2; -inf marks an impossible class; may be memory-mapped
  labels       integer `[N]` in [0, K); only `examine` and `tally` also take -1, an example without a label
  temperature  a finite number above 0; the probabilities are those of logits / temperature
  confidence   `[N]` in [0, 1], the largest probability; correct: bool `[N]`
  bins         from `bin_confidences`, `bin_logits` or `bin_equal_mass`; n_bins: M >= 1
  score        `[N]`, higher = more out-of-distribution and less confident
  resamples    of the bootstrap, at least 1; level: in (0, 1); seed: the result is a function of the arguments
"""

from mixup_jax.metrics.analyses import by_group, calibration_test, ensemble_disagreement, refinement_parts
from mixup_jax.metrics.binning import Bins, bin_confidences, bin_logits
from mixup_jax.metrics.calibration import (
    Direction,
    adaptive_ece,
    bin_equal_mass,
    confidence_minus_accuracy,
    debiased_ece,
    ece,
    ece_direction,
    mce,
    oe,
)
from mixup_jax.metrics.classwise import bin_classes, bootstrap_classwise_ece, classwise_ece, classwise_ece_of_bins, tace
from mixup_jax.metrics.conformal import Sets, binomial_interval, conformal_threshold, coverage_of, prediction_sets
from mixup_jax.metrics.detection import aupr_in, aupr_out, auroc, auroc_interval, fpr95_id, fpr95_ood
from mixup_jax.metrics.examined import Examined, Tally, examine, tally, tally_examples
from mixup_jax.metrics.intervals import (
    bootstrap_intervals,
    paired_bootstrap_auroc_difference,
    paired_bootstrap_differences,
)
from mixup_jax.metrics.ood_scores import energy_score, entropy_score, gen_score, max_logit_score, msp_score
from mixup_jax.metrics.posthoc import Isotonic, VectorScaling, fit_isotonic, fit_vector_scaling
from mixup_jax.metrics.proper import (
    BrierDecomposition,
    BrierSums,
    brier,
    brier_decomposition,
    brier_decomposition_of_classes,
    brier_of_each,
    brier_sums,
    brier_sums_of_classes,
    nll,
    nll_of_each,
    top_k_accuracy,
)
from mixup_jax.metrics.recalibrators import (
    fit_beta,
    fit_dirichlet,
    fit_ensemble_temperature,
    fit_histogram,
    fit_sms,
    fit_spline,
    fit_svs,
)
from mixup_jax.metrics.replicates import NoiseFloor, adaptive_noise_floor, noise_floor, smooth_noise_floor
from mixup_jax.metrics.resampling import (
    Difference,
    Interval,
    bootstrap_interval_of,
    paired_bootstrap_difference_of,
    wilson_interval,
)
from mixup_jax.metrics.selective import RiskCoverage, accuracy_at_coverage, augrc, aurc, e_aurc, risk_coverage
from mixup_jax.metrics.smooth import Residuals, residuals, smooth_ece
from mixup_jax.metrics.softmax import confidence_and_correct, log_softmax, max_probability
from mixup_jax.metrics.temperature import fit_temperature, scale

# fmt: off
__all__ = [
    "Bins", "BrierDecomposition", "BrierSums", "Difference", "Direction", "Examined", "Interval", "Isotonic",
    "NoiseFloor", "Residuals", "RiskCoverage", "Sets", "Tally", "VectorScaling", "accuracy_at_coverage", "adaptive_ece",
    "adaptive_noise_floor", "augrc", "aupr_in", "aupr_out", "aurc", "auroc", "auroc_interval", "bin_classes",
    "bin_confidences", "bin_equal_mass", "bin_logits", "binomial_interval", "bootstrap_classwise_ece",
    "bootstrap_interval_of", "bootstrap_intervals", "brier", "brier_decomposition", "brier_decomposition_of_classes",
    "brier_of_each", "brier_sums", "brier_sums_of_classes", "by_group", "calibration_test", "classwise_ece",
    "classwise_ece_of_bins", "confidence_and_correct", "confidence_minus_accuracy", "conformal_threshold",
    "coverage_of", "debiased_ece", "e_aurc", "ece", "ece_direction", "energy_score", "ensemble_disagreement",
    "entropy_score", "examine", "fit_beta", "fit_dirichlet", "fit_ensemble_temperature", "fit_histogram",
    "fit_isotonic", "fit_sms", "fit_spline", "fit_svs", "fit_temperature", "fit_vector_scaling", "fpr95_id",
    "fpr95_ood", "gen_score", "log_softmax", "max_logit_score", "max_probability", "mce", "msp_score", "nll",
    "nll_of_each", "noise_floor", "oe", "paired_bootstrap_auroc_difference", "paired_bootstrap_difference_of",
    "paired_bootstrap_differences", "prediction_sets", "refinement_parts", "residuals", "risk_coverage", "scale",
    "smooth_ece", "smooth_noise_floor", "tace", "tally", "tally_examples", "top_k_accuracy",
    "wilson_interval",
]
