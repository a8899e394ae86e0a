"""How well a score tells out-of-distribution (OOD) examples from in-distribution ones.

In every function `score_in` are the scores of N >= 1 in-distribution examples and `score_out` those of M >= 1 OOD
examples.  A higher score means more OOD, and OOD is the positive class unless the name says otherwise.  Equal scores
are ties, never broken by position.  All raise InputError if a set is empty, is not a vector, or contains NaN.
"""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.order import ascending, both_ascending, sum_of_wins, wins
from mixup_jax.metrics.resampling import Interval, wilson_interval
from mixup_jax.metrics.softmax import Floats


def check_scores(name: str, scores: npt.ArrayLike) -> Floats:
    """Returns scores as float64 `[N]`, N >= 1, infinities allowed.

    Raises:
      InputError: the set called `name` is empty, not a vector, or contains NaN.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"{name} has shape {list(values.shape)}; expected [N] with at least one score")
    if np.isnan(values).any():
        first = int(np.argmax(np.isnan(values)))
        raise InputError(f"{name} contains NaN, the first at [{first}]; expected numbers (-inf and inf are allowed)")
    return values


def auroc(score_in: npt.ArrayLike, score_out: npt.ArrayLike) -> float:
    """Returns the area under the ROC curve, `P(out > in) + P(out = in) / 2`, in [0, 1].

    It is the exact Mann-Whitney statistic; chance is 1/2, and exchanging the arguments gives 1 - AUROC.
    """
    inside, outside = both_ascending(check_scores("score_in", score_in), check_scores("score_out", score_out))
    return sum_of_wins(outside, inside) / (2 * len(inside) * len(outside))


def auroc_interval(score_in: npt.ArrayLike, score_out: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Returns the ends of a confidence interval for the AUROC, which it contains, within [0, 1].

    The variance is that of DeLong et al. (1988), `var(P_out)/M + var(P_in)/N`, computed exactly in N log N steps.
    P_out of an OOD example is the share of in-distribution examples below it (a tie counts 1/2); P_in likewise.
    The interval is normal in logit(AUROC) (Pepe, 2003, section 5.2.3), so it stays inside [0, 1] and is longer
    towards 1/2.  It says how much the AUROC would vary with other test sets of these sizes.  A set of a single example
    adds no variance.  For AUROC 0 or 1 the variance is 0; the interval is then Wilson's for as many pairs of an example
    of each set as the smaller set allows, no example in two of them, which is longer than it need be.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    inside, outside = both_ascending(check_scores("score_in", score_in), check_scores("score_out", score_out))
    wins_out, wins_in = wins(outside, inside), wins(inside, outside)
    share_out, share_in = wins_out / (2 * len(inside)), 1.0 - wins_in / (2 * len(outside))
    variance = sum(float(share.var(ddof=1)) / len(share) for share in (share_out, share_in) if len(share) > 1)
    area = int(wins_out.sum()) / (2 * len(inside) * len(outside))
    if area in (0.0, 1.0):
        pairs = min(len(inside), len(outside))
        return wilson_interval(int(area) * pairs, pairs, level)
    if variance == 0.0:
        return Interval(area, area)
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    low, high = ((1 + math.tanh((centre + sign * reach) / 2)) / 2 for sign in (-1, 1))  # the inverse of the logit
    return Interval(min(low, area), max(high, area))


def aupr_out(score_in: npt.ArrayLike, score_out: npt.ArrayLike) -> float:
    """Returns the average precision of finding the OOD examples, in (0, 1].

    Average precision is `sum_t (R_t - R_{t-1}) P_t` over the distinct scores t from high to low, without
    interpolation; equal scores enter together.  Chance is M / (N + M), so it depends on the sizes.
    """
    return _average_precision(check_scores("score_out", score_out), check_scores("score_in", score_in))


def aupr_in(score_in: npt.ArrayLike, score_out: npt.ArrayLike) -> float:
    """Returns the average precision of finding the in-distribution examples by the lowest scores, in (0, 1].

    Here in-distribution is the positive class and the score is negated; otherwise as `aupr_out`.
    """
    return _average_precision(-check_scores("score_in", score_in), -check_scores("score_out", score_out))


def _average_precision(positive: Floats, negative: Floats) -> float:
    positive, negative = both_ascending(positive, negative)
    thresholds = np.unique(positive)
    # Only the scores of positive examples raise the recall; other thresholds add nothing.
    true = len(positive) - np.searchsorted(positive, thresholds, side="left")
    false = len(negative) - np.searchsorted(negative, thresholds, side="left")
    own = true - np.append(true[1:], 0)
    return float((own * (true / (true + false))).sum()) / len(positive)


def _ninety_five_percent(n: int) -> int:
    """Returns the smallest k with k / n >= 0.95, without rounding."""
    return -(-95 * n // 100)


def fpr95_ood(score_in: npt.ArrayLike, score_out: npt.ArrayLike) -> float:
    """Returns the share of in-distribution examples flagged when at least 95 % of OOD is caught, in [0, 1].

    The threshold is the largest score t with `mean(score_out >= t) >= 0.95`; the result is
    `mean(score_in >= t)`.  Examples exactly at the threshold are flagged.  This is the convention of
    OpenOOD (OOD is the positive class).
    """
    inside, outside = check_scores("score_in", score_in), ascending(check_scores("score_out", score_out))
    threshold = outside[len(outside) - _ninety_five_percent(len(outside))]
    return float((inside >= threshold).mean())


def fpr95_id(score_in: npt.ArrayLike, score_out: npt.ArrayLike) -> float:
    """Returns the share of OOD examples accepted when at least 95 % of in-distribution is accepted, in [0, 1].

    The threshold is the smallest score t with `mean(score_in <= t) >= 0.95`; the result is
    `mean(score_out <= t)`.  Examples exactly at the threshold are accepted.  Many papers call this
    FPR95 (in-distribution is their positive class).
    """
    inside, outside = ascending(check_scores("score_in", score_in)), check_scores("score_out", score_out)
    threshold = inside[_ninety_five_percent(len(inside)) - 1]
    return float((outside <= threshold).mean())
