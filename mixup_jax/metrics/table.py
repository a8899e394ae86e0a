"""The table of metrics: one row for each number that is reported.

The measurements (`measuring`), the report's tables and its check of stored numbers, and the pages docs/metrics.md and
docs/evaluation-json.md all follow these rows.  To add a metric, write its function and its row.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.metrics.calibration import (
    adaptive_ece,
    calibration_error,
    confidence_minus_accuracy,
    debiased_ece,
    debiased_error,
    ece,
    ece_direction,
    mce,
    oe,
    overconfidence_error,
    signed_error,
)
from mixup_jax.metrics.classwise import bootstrap_classwise_ece, classwise_ece, tace
from mixup_jax.metrics.detection import aupr_in, aupr_out, auroc, auroc_interval, fpr95_id, fpr95_ood
from mixup_jax.metrics.feature_scores import (
    FeatureScore,
    fit_ash,
    fit_fdbd,
    fit_kl_matching,
    fit_knn,
    fit_mahalanobis,
    fit_nnguide,
    fit_react,
    fit_relative_mahalanobis,
    fit_residual,
    fit_scale,
    fit_vim,
)
from mixup_jax.metrics.features import Training
from mixup_jax.metrics.ood_scores import gen_score
from mixup_jax.metrics.proper import brier_decomposition, resolution, top_k_accuracy, uncertainty
from mixup_jax.metrics.replicates import (
    NoiseFloor,
    Replicates,
    accuracy_replicates,
    adaptive_noise_floor,
    adaptive_replicates,
    gap_replicates,
    noise_floor,
    of_bins,
    smooth_noise_floor,
    smooth_replicates,
)
from mixup_jax.metrics.resampling import wilson_interval
from mixup_jax.metrics.selective import accuracy_at_coverage, augrc, aurc, e_aurc
from mixup_jax.metrics.smooth import smooth_ece
from mixup_jax.metrics.softmax import Bools, Floats, Ints

BIN_COUNTS = (15, 100)
"""15 bins as in most of the literature, 100 as in the mixup paper's code."""
COVERAGES = (0.5, 0.8, 0.9, 0.95)

POPULATION = "population"

BINS_PAGE, MORE_PAGE = "Calibration: bins, ECE, OE, MCE", "Calibration beyond equally wide bins"
CONFIDENCE_PAGE, PROPER_PAGE = "Confidence and correctness", "Proper scores"
SELECTIVE_PAGE, OOD_PAGE = "Selective prediction", "Out-of-distribution detection"


@dataclass(frozen=True)
class Bootstrap:
    """How the 95 % interval of a metric is made: by one of the first three, or else by calling it for every resample.

    Attributes:
      own: returns the interval; it takes the same arguments as the metric.
      replicates: returns the metric of many resamples at once; where `own` is given too, for differences alone.
      each: returns a number for each example, whose mean is the metric; it takes the same arguments as the metric.
      slow: whether it takes a second or more for 10,000 examples; it is then made only if all intervals are asked for.
      name: whose interval it is, if not the bootstrap's.
      population: whether the mean of the metric is the same for every n, so that the interval covers its value on
        infinitely many examples.  It covers the mean over test sets of this size otherwise.
      share_of: of a metric that is a share of one set, the name of the set; at 0 and 1 its interval holds Wilson's.
      withheld: whether the interval is not reported, because it does not hold what it says.
    """

    replicates: Replicates | None = None
    each: Callable[..., Floats | Bools] | None = None
    own: Callable[..., Sequence[float]] | None = None
    slow: bool = False
    name: str = ""
    population: bool = False
    share_of: str = ""
    withheld: bool = False


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Attributes:
      key: its key in an entry of evaluation.json; a slash separates the keys of nested objects.
      label: its name in tables and on the page.
      function: takes the arrays that `of` names and returns the number.  A function of logits also takes
        `temperature`, unless the metric is `unscaled`.
      of: fields of `Examined`, such as ("confidence", "correct"); or ("logits", "labels"); or ("bins_15",), the `Bins`
        of 15 bins, or ("brier_parts_15",), the `BrierDecomposition` of as many.
      aim: which values are better: "lower", "higher", "near 0", or "" if none is.
      equation: its definition, in one line.
      where: the heading of docs/metrics.md that explains it.
      bins: how many bins it is computed with; None if it needs none.
      limits: the least and the largest value.
      interval: how its interval is made; None if it has none.
      floor: the function of the confidences that returns its noise floor; None if it has none.  Where the interval is
        slow, so is the floor, and it is made only if all intervals are asked for.
      unscaled: whether a temperature does not change it.
      classes: the fewest classes for which it is reported.
      required: whether every evaluation.json of schema 1 has it; otherwise it may be missing.
      section: the section of the report's page that shows it: "test", "more" or "selective"; "" for none.
      summary: whether `python -m mixup_jax.evaluate` prints it.
      short: its name above a narrow column; the label if empty.
      source: the paper that proposed it, as in the list at the end of docs/metrics.md.
    """

    key: str
    label: str
    function: Callable[..., float]
    of: tuple[str, ...]
    aim: str = "lower"
    equation: str = ""
    where: str = MORE_PAGE
    bins: int | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    interval: Bootstrap | None = None
    floor: Callable[[Floats], NoiseFloor] | None = None
    unscaled: bool = False
    classes: int = 2
    required: bool = False
    section: str = "more"
    summary: bool = True
    short: str = ""
    source: str = ""

    @property
    def covered(self) -> str:
        """What its interval covers, in a few words; nothing if it has none."""
        if self.interval is None or self.interval.withheld:
            return ""
        return POPULATION if self.interval.population else "mean at this n"

    @property
    def full_vector(self) -> bool:
        """Whether it is computed from the probabilities of all classes, and so needs the logits."""
        return "logits" in self.of


@dataclass(frozen=True)
class Score:
    """An out-of-distribution score of an example; higher means more OOD.

    Attributes:
      key: its key in `scores` of an entry of `ood`; the key of the first one is also the entry's `score`.
      label: its name in tables and on the page.
      equation: its definition.
      field: the field of `Examined` that holds it; None for a score that needs the network.
      level: whether it uses the level of the logits, which softmax ignores, so that it means nothing for probabilities.
      source: who proposed it.
      on_request: the function of logits of a score that is made only on request.
      fit: for a score of penultimate features, the function that fits it on those of training examples.
      needs: the fields of `Training` besides the features that `fit` needs.
    """

    key: str
    label: str
    equation: str
    field: str | None
    level: bool = False
    source: str = ""
    on_request: Callable[[npt.ArrayLike], Floats] | None = None
    fit: Callable[[Training], FeatureScore] | None = None
    needs: tuple[str, ...] = ()


def mean(values: Floats | Bools) -> float:
    """Returns the mean over the examples."""
    return float(values.mean())


def _interval_of_share(outcomes: Bools) -> Sequence[float]:
    return wilson_interval(int(outcomes.sum()), len(outcomes))


def _nll(log_likelihood: Floats) -> float:
    return 0.0 - mean(log_likelihood)


def _part(name: str, function: Callable[..., Any] = lambda parts: parts) -> Callable[..., float]:
    """Returns a function that returns the field `name` of the result of `function`."""
    return lambda *arguments: float(getattr(function(*arguments), name))


def _of_bins(
    key: str, label: str, function: Callable[..., float], formula: Callable[..., Floats], equation: str, **more: Any
) -> Metric:
    """Returns the row of a metric of equally wide bins; the number of bins is the end of its key."""
    bins = key.rpartition("_")[2]
    row: dict[str, Any] = {
        "of": (f"bins_{bins}",),
        "where": BINS_PAGE,
        "bins": int(bins),
        "interval": Bootstrap(of_bins(formula)),
    }
    return Metric(key, label, function, equation=equation, **(row | more))


def _reliability(count: Ints, confidence_sum: Floats, correct_sum: Floats) -> Floats:
    return calibration_error(count, confidence_sum, correct_sum, "l2") ** 2


def _brier_part(part: str, aim: str, equation: str, **more: Any) -> Metric:
    """Returns the row of a part of the Brier score of the event "the prediction is right"."""
    label = f"Brier score of being right: {part.replace('_', ' ')}"
    of = ("brier_parts_15",)
    return Metric(f"brier_{part}_15", label, _part(part), of, aim, equation, bins=15, summary=False, **more)


def _of_features(
    key: str, label: str, equation: str, fit: Callable[..., FeatureScore], *needs: str, source: str
) -> Score:
    """Returns the row of a score of penultimate features."""
    return Score(key, label, equation, None, source=source, fit=fit, needs=needs)


_TEST: dict[str, Any] = {"required": True, "section": "test"}
_MORE: dict[str, Any] = {"where": MORE_PAGE, "summary": False}
_SELECTIVE: dict[str, Any] = {"where": SELECTIVE_PAGE, "section": "selective"}
_RESAMPLED = Bootstrap(slow=True)

# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric("accuracy", "Accuracy", mean, ("correct",), "higher",
           "share of the examples whose largest logit is that of the label", CONFIDENCE_PAGE,
           interval=Bootstrap(accuracy_replicates, own=_interval_of_share, name="Wilson", population=True),
           unscaled=True, **_TEST),
    Metric("nll", "Negative log-likelihood (nats)", _nll, ("log_likelihood",), "lower",
           "-mean_i log p_i[y_i]; null where infinite", PROPER_PAGE,
           limits=(0.0, math.inf), interval=Bootstrap(each=np.negative, population=True), **_TEST),
    Metric("brier", "Brier score (sum over classes)", mean, ("brier",), "lower",
           "mean_i sum_k (p_ik - 1[k = y_i])^2", PROPER_PAGE,
           limits=(0.0, 2.0), interval=Bootstrap(each=lambda brier: brier, population=True), source="Brier 1950",
           **_TEST),
    *(_of_bins(f"ece_{bins}", f"ECE, {bins} bins", ece, calibration_error,
               "sum_m n_m/n abs(acc_m - conf_m)",
               floor=partial(noise_floor, n_bins=bins), source="Guo et al. 2017, eq. 3", **_TEST)
      for bins in BIN_COUNTS),
    *(_of_bins(f"oe_{bins}", f"OE, {bins} bins", oe, overconfidence_error,
               "sum_m n_m/n conf_m max(conf_m - acc_m, 0); never above ECE",
               source="Thulasidasan et al. 2019, section 3", **_TEST)
      for bins in BIN_COUNTS),
    _of_bins("mce_15", "MCE, 15 bins", mce, partial(calibration_error, norm="max"),
             "max over non-empty bins of abs(acc_m - conf_m)", source="Guo et al. 2017, eq. 5",
             interval=Bootstrap(of_bins(partial(calibration_error, norm="max")), withheld=True),
             **_TEST),
    Metric("mean_confidence", "Mean confidence", mean, ("confidence",), "",
           "mean_i max_k p_ik", CONFIDENCE_PAGE, required=True, section=""),
    Metric("confidence_minus_accuracy", "Confidence \N{MINUS SIGN} accuracy", confidence_minus_accuracy, ("bins_15",),
           "near 0", "mean confidence - accuracy, signed", BINS_PAGE,
           limits=(-1.0, 1.0), interval=Bootstrap(gap_replicates, population=True), **_TEST),
    _of_bins("ece_over_15", "Over-confident part of ECE, 15 bins", _part("over", ece_direction), signed_error,
             "sum_m n_m/n max(conf_m - acc_m, 0)", **_MORE),
    _of_bins("ece_under_15", "Under-confident part of ECE, 15 bins", _part("under", ece_direction),
             partial(signed_error, sign=-1.0), "sum_m n_m/n max(acc_m - conf_m, 0)", **_MORE),
    _of_bins("ece_l2_15", "ECE, squared gaps, 15 bins", partial(ece, norm="l2"), partial(calibration_error, norm="l2"),
             "sqrt(sum_m n_m/n (acc_m - conf_m)^2); never below ECE", source="Kumar et al. 2019", **_MORE),
    _of_bins("debiased_ece_l1_15", "ECE, debiased, 15 bins", partial(debiased_ece, norm="l1"),
             partial(debiased_error, norm="l1"),
             "max(0, 2 ECE - E[ECE with acc_m redrawn from N(acc_m, acc_m (1 - acc_m)/n_m)]), in closed form",
             source="Kumar et al. 2019", **_MORE),
    _of_bins("debiased_ece_l2_15", "ECE, squared gaps, debiased, 15 bins", partial(debiased_ece, norm="l2"),
             partial(debiased_error, norm="l2"),
             "sqrt(max(0, sum_m n_m/n ((acc_m - conf_m)^2 - acc_m (1 - acc_m)/(n_m - 1))))",
             where=MORE_PAGE, source="Kumar et al. 2019"),
    Metric("adaptive_ece_15", "Adaptive ECE, 15 bins of equal size", adaptive_ece, ("confidence", "correct"), "lower",
           "ECE over 15 bins of equal mass (`bin_equal_mass`)",
           bins=15, interval=Bootstrap(adaptive_replicates, slow=True), floor=adaptive_noise_floor,
           source="Nixon et al. 2019"),
    Metric("smooth_ece", "Smooth ECE", smooth_ece, ("confidence", "correct"), "lower",
           "the s with integral abs(mean_i (correct_i - confidence_i) K_s(t, confidence_i)) dt = s, K_s a Gaussian "
           "reflected at 0 and 1",
           interval=Bootstrap(smooth_replicates, slow=True), floor=smooth_noise_floor,
           source="Błasiok & Nakkiran 2024"),
    Metric("classwise_ece_15", "Class-wise ECE, 15 bins", classwise_ece, ("logits", "labels"), "lower",
           "mean over classes of ECE of (p_k, label = k): SCE",
           bins=15, interval=Bootstrap(own=bootstrap_classwise_ece, slow=True), source="Nixon et al. 2019"),
    Metric("tace_15", "Thresholded adaptive ECE, 15 bins", tace, ("logits", "labels"), "lower",
           "class-wise ECE over bins of equal mass, of the probabilities above 0.001",
           bins=15, interval=_RESAMPLED, source="Nixon et al. 2019", summary=False),
    Metric("brier_top_label", "Brier score of being right", _part("brier", brier_decomposition),
           ("confidence", "correct"), "lower",
           "mean_i (confidence_i - correct_i)^2 = reliability - resolution + uncertainty + within-bin variance - "
           "within-bin covariance; not the Brier score of all classes",
           interval=Bootstrap(each=lambda confidence, correct: np.square(confidence - correct), population=True),
           source="Murphy 1973; Stephenson et al. 2008", summary=False),
    _brier_part("reliability", "lower", "sum_m n_m/n (conf_m - acc_m)^2", interval=Bootstrap(of_bins(_reliability))),
    _brier_part("resolution", "higher", "sum_m n_m/n (acc_m - acc)^2",
                interval=Bootstrap(of_bins(lambda count, _, correct: resolution(count, correct)))),
    _brier_part("uncertainty", "", "acc (1 - acc)",
                interval=Bootstrap(of_bins(lambda count, _, correct: uncertainty(count, correct)))),
    _brier_part("within_bin_variance", "", "mean squared distance of a confidence from conf_m of its bin", section=""),
    _brier_part("within_bin_covariance", "", "2 mean_i (confidence_i - conf_m) (correct_i - acc_m)",
                limits=(-1.0, 1.0), section=""),
    Metric("aurc", "AURC", aurc, ("msp", "correct"), "lower",
           "1/N sum_k risk_k", interval=_RESAMPLED, source="Geifman et al. 2019", **_SELECTIVE),
    Metric("e_aurc", "E-AURC", e_aurc, ("msp", "correct"), "lower",
           "AURC - 1/N sum_(j=1..E) j / (N - E + j), with E errors: above a perfect ranking, exactly",
           interval=_RESAMPLED, source="Geifman et al. 2019", **_SELECTIVE),
    Metric("augrc", "AUGRC", augrc, ("msp", "correct"), "lower",
           "acc (1 - acc) (1 - AUROC of errors) + (1 - acc)^2/2: the area under (errors among the k surest)/N over k/N",
           limits=(0.0, 0.5), interval=_RESAMPLED, source="Traub et al. 2024", **_SELECTIVE),
    *(Metric(f"accuracy_at_coverage/{coverage}", f"Accuracy on the surest {100 * coverage:g} %",
             partial(accuracy_at_coverage, coverage=coverage), ("msp", "correct"), "higher",
             f"1 - risk_k at k = ceil({coverage} N)", **_SELECTIVE)
      for coverage in COVERAGES),
    Metric("accuracy_top5", "Accuracy among the five largest logits", partial(top_k_accuracy, k=5),
           ("logits", "labels"), "higher",
           "share of the examples whose label is among the five largest logits (of equal ones the first); where there "
           "are more than five classes", CONFIDENCE_PAGE, unscaled=True, classes=6, section="", summary=False),
)
"""The numbers of one set of labelled examples, in the order in which they are written and shown."""

INTERVALS = (
    *("accuracy", "ece_15", "oe_15", "ece_100", "oe_100", "confidence_minus_accuracy", "smooth_ece", "mce_15"),
    *("ece_l2_15", "ece_over_15", "ece_under_15", "debiased_ece_l1_15", "debiased_ece_l2_15", "brier_reliability_15"),
    *("brier_resolution_15", "brier_uncertainty_15", "adaptive_ece_15", "brier", "brier_top_label", "nll"),
)
"""The fixed order of `intervals` in files of schema 1; other metrics follow in the order of the table."""

SETS = ("score_in", "score_out")
_DETECTED: dict[str, Any] = {"where": OOD_PAGE, "required": True}
_SLOWLY: dict[str, Any] = _DETECTED | {"interval": _RESAMPLED}

DETECTION: tuple[Metric, ...] = (
    Metric("auroc", "AUROC", auroc, SETS, "higher",
           "P(out > in) + P(out = in)/2, the exact Mann-Whitney statistic; chance 1/2",
           interval=Bootstrap(own=auroc_interval, name="DeLong", population=True), **_DETECTED),
    Metric("aupr_in", "AUPR, in-distribution as positive", aupr_in, SETS, "higher",
           "average precision of finding in-distribution by low scores", short="AUPR-in", **_SLOWLY),
    Metric("aupr_out", "AUPR, out-of-distribution as positive", aupr_out, SETS, "higher",
           "average precision, sum_t (R_t - R_(t-1)) P_t, of finding OOD by high scores", short="AUPR-out", **_SLOWLY),
    Metric("fpr95_ood", "FPR95-OOD (share of in-distribution flagged)", fpr95_ood, SETS, "lower",
           "share of in-distribution **flagged** when at least 95 % of OOD is caught", short="FPR95-ood",
           source="Zhang et al. 2023 (FPR@95)", **_SLOWLY | {"interval": Bootstrap(slow=True, share_of="score_in")}),
    Metric("fpr95_id", "FPR95-ID (share of OOD accepted)", fpr95_id, SETS, "lower",
           "share of OOD **accepted** when at least 95 % of in-distribution is accepted (FPR95 in many papers)",
           short="FPR95-id", **_SLOWLY | {"interval": Bootstrap(slow=True, share_of="score_out")}),
)
"""The numbers of two sets of scores (higher = more OOD), in-distribution and out-of-distribution."""

SCORES: tuple[Score, ...] = (
    Score("msp", "MSP", "log(1 - max_k p_k)", "msp", source="Hendrycks & Gimpel 2017"),
    Score("entropy", "entropy", "log(-sum_k p_k log p_k)", "entropy"),
    Score("energy", "energy", "-T logsumexp_k(z_k / T)", "energy", level=True, source="Liu et al. 2020, eq. 4"),
    Score("max_logit", "largest logit", "-max_k z_k", "max_logit", level=True, source="Hendrycks et al. 2022"),
    Score("gen", "GEN", "sum over the 100 largest p_k of (p_k (1 - p_k))^0.1", None, source="Liu et al. 2023",
          on_request=gen_score),
    Score("odin", "ODIN", "MSP of f(x + eps sign(grad_x log max_k p_k)) / T", None, source="Liang et al. 2018"),
    _of_features("knn", "KNN", "distance of f/abs(f) to that of the 50th nearest training example", fit_knn,
                 source="Sun et al. 2022"),
    _of_features("mahalanobis", "Mahalanobis", "min_c (f - m_c)' S^-1 (f - m_c), S the covariance within classes",
                 fit_mahalanobis, "labels", source="Lee et al. 2018"),
    _of_features("relative_mahalanobis", "relative Mahalanobis", "Mahalanobis - (f - m)' S_all^-1 (f - m)",
                 fit_relative_mahalanobis, "labels", source="Ren et al. 2021"),
    _of_features("vim", "ViM", "alpha residual - logsumexp_k z_k, alpha = mean max_k z_k / mean residual in training",
                 fit_vim, "kernel", source="Wang et al. 2022"),
    _of_features("react", "ReAct", "energy of min(f, c), c the 90th percentile of training features", fit_react,
                 "kernel", source="Sun et al. 2021"),
    _of_features("ash", "ASH-B", "energy of f with its largest tenth set to sum f / their number, the rest to 0",
                 fit_ash, "kernel", source="Djurisic et al. 2023"),
    _of_features("scale", "SCALE", "energy of f exp(sum f / sum of its largest 15 %)", fit_scale, "kernel",
                 source="Xu et al. 2024"),
    _of_features("fdbd", "fDBD", "-sum_k (max z - z_k) / abs(w_max - w_k) / abs(f - m)", fit_fdbd, "kernel",
                 source="Liu & Qin 2024"),
    _of_features("nnguide", "NNGuide", "energy times the mean of the 100 largest cos(f, f_i) logsumexp z_i",
                 fit_nnguide, "kernel", source="Park et al. 2023"),
    _of_features("residual", "residual", "length of f, from where all z_k are equal, outside the principal space",
                 fit_residual, "kernel", source="Wang et al. 2022"),
    _of_features("kl_matching", "KL-matching", "min_c KL(p, mean p of training examples predicted as c)",
                 fit_kl_matching, "kernel", source="Hendrycks et al. 2022"),
)
# fmt: on


def what_intervals_cover() -> str:
    """Returns what the intervals of these rows cover, in words for a reader of a page of numbers."""
    unbiased = [row.short or row.label for row in (*METRICS, *DETECTION) if row.covered == POPULATION]
    return (
        f"The intervals of {', '.join(unbiased)} cover the value on infinitely many examples. All others cover the "
        "mean of the number over test sets of this size, for calibration errors more than that on infinitely many; "
        "where a network is nearly calibrated, they hold it in more than 95 %."
    )


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an entry of evaluation.json, made of numbers by the keys of their rows."""
    entry: dict[str, Any] = {}
    for key, value in flat.items():
        *outer, last = key.split("/")
        place = entry
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return entry


def stored(entry: Mapping[str, Any], key: str, missing: Any = None) -> Any:
    """Returns the value of a row's key in an entry of evaluation.json, or `missing` if there is none."""
    found: Any = entry
    for part in key.split("/"):
        if not isinstance(found, Mapping) or part not in found:
            return missing
        found = found[part]
    return found
