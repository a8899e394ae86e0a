"""Conformal prediction: sets of classes that hold the true one with a chosen probability.

The sets hold the true class of a new example with probability at least `level`, if it is exchangeable with the
calibration examples (split conformal prediction, Vovk et al. 2005; Papadopoulos et al. 2002).
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import blocks
from mixup_jax.metrics.softmax import Bools, Floats, Ints, check_labelled, log_softmax

RULES = ("thr", "aps", "raps")
RAPS_RANK, RAPS_PENALTY = 1, 0.1
STRATA = ((0, 1), (2, 3), (4, 10), (11, 100), (101, math.inf))
"""Sizes of sets, from .. to, whose coverage is reported apart: those of Angelopoulos et al. 2021, appendix E."""


class Sets(NamedTuple):
    """The prediction sets of N labelled examples.

    Attributes:
      size: int64 `[N]`, the classes in the set, 0 .. K.
      covered: bool `[N]`, whether the label is in the set.
    """

    size: Ints
    covered: Bools


def scores_of_ranks(
    logits: npt.ArrayLike, rule: str, seed: int = 0, temperature: float = 1.0
) -> Iterator[tuple[slice, Ints, Floats]]:
    """Yields blocks of rows: the rows, their classes from the likeliest on `[n, K]`, and these classes' scores.

    The higher the score, the less the class conforms.  With p_1 >= p_2 >= .. the sorted probabilities and u uniform in
    [0, 1], drawn for each example in turn from the seed:

      thr    1 - p_j (Sadinle et al. 2019, "LAC")
      aps    p_1 + .. + p_j - u p_j (Romano et al. 2020)
      raps   that of aps + 0.1 max(0, j - 1) (Angelopoulos et al. 2021, with lambda 0.1 and k_reg 1)
    """
    if rule not in RULES:
        raise InputError(f"rule of prediction sets is {rule!r}; expected one of {', '.join(RULES)}")
    given = np.asarray(logits)
    uniform = np.random.default_rng(seed).random(len(given))
    for rows in blocks(*given.shape):
        order = np.argsort(-given[rows], axis=1, kind="stable")
        p = np.exp(np.take_along_axis(log_softmax(given[rows].astype(np.float64) / temperature), order, axis=1))
        if rule == "thr":
            yield rows, order, 1.0 - p
            continue
        scores = p.cumsum(axis=1) - uniform[rows, None] * p
        if rule == "raps":
            scores += RAPS_PENALTY * np.maximum(np.arange(1, p.shape[1] + 1) - RAPS_RANK, 0)
        yield rows, order, scores


def conformal_threshold(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    rule: str = "thr",
    level: float = 0.9,
    seed: int = 0,
    temperature: float = 1.0,
) -> float:
    """Returns the largest score of the classes in a set: the ceil((n + 1) level)-th smallest of the labels' scores.

    It is infinite, so that sets hold every class, if there are too few examples for the level.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.9")
    checked_logits, checked_labels = check_labelled(logits, labels)
    own = np.empty(len(checked_labels))
    for rows, order, scores in scores_of_ranks(checked_logits, rule, seed, temperature):
        own[rows] = scores[order == checked_labels[rows][:, None]]
    place = math.ceil((len(own) + 1) * level - 1e-9)  # 0.9 of 9 + 1 examples are 9
    return math.inf if place > len(own) else float(np.sort(own)[place - 1])


def prediction_sets(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    threshold: float,
    rule: str = "thr",
    seed: int = 0,
    temperature: float = 1.0,
) -> Sets:
    """Returns the size of each example's set, the classes with a score of at most the threshold, and its coverage."""
    checked_logits, checked_labels = check_labelled(logits, labels)
    size, covered = np.empty(len(checked_labels), np.int64), np.empty(len(checked_labels), bool)
    for rows, order, scores in scores_of_ranks(checked_logits, rule, seed, temperature):
        inside = scores <= threshold
        size[rows] = inside.sum(axis=1)
        covered[rows] = (inside & (order == checked_labels[rows][:, None])).any(axis=1)
    return Sets(size, covered)


def coverage_of(sets: Sets, labels: npt.ArrayLike) -> dict[str, Any]:
    """Returns how well sets cover: all numbers are shares, but for `mean_size`.

    Returns:
      `coverage`; `intervals`, that of `coverage`, of 95 %, exact for independent examples and a given threshold
      (Clopper & Pearson 1934);
      `mean_size`; `empty`, the share of empty sets; `by_size`: {sizes such as "2-3": {`n`, `coverage`}} of those that
      occur; `worst_class_coverage`, over classes that occur; and `class_gap`, the mean over these of
      abs(coverage of the class - coverage).
    """
    n, hits, classes = len(sets.covered), int(sets.covered.sum()), np.asarray(labels)
    low, high = binomial_interval(hits, n)
    by_size = {}
    for least, most in STRATA:
        there = (sets.size >= least) & (sets.size <= most)
        name = f"{least}-{most}" if math.isfinite(most) else f"{least}+"
        if there.any():
            by_size[name] = {"n": int(there.sum()), "coverage": float(sets.covered[there].mean())}
    count = np.bincount(classes)
    of_class = np.bincount(classes, sets.covered)[count > 0] / count[count > 0]
    return {
        "coverage": hits / n,
        "intervals": {"coverage": [low, high]},
        "mean_size": float(sets.size.mean()),
        "empty": float((sets.size == 0).mean()),
        "by_size": by_size,
        "worst_class_coverage": float(of_class.min()),
        "class_gap": float(np.abs(of_class - hits / n).mean()),
    }


def binomial_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Returns the exact interval of a binomial share (Clopper & Pearson, 1934)."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high
