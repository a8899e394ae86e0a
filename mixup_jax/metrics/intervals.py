"""Bootstrap intervals of the metrics of one run, and of the differences between two.

They say how much a number would vary with other test sets of the same size.  `noise_floor` says what a perfectly
calibrated network would score.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics import table
from mixup_jax.metrics.binning import bin_edges
from mixup_jax.metrics.detection import check_scores
from mixup_jax.metrics.replicates import Replicates, Resamples, SortedRun, sorted_run, with_bins
from mixup_jax.metrics.resampling import (
    PAIR_CHUNK,
    Counts,
    Difference,
    Interval,
    difference_around,
    gathered,
    interval_around,
    no_difference,
    resample_counts,
    wilson_interval,
)
from mixup_jax.metrics.softmax import Floats

USUAL = ("accuracy", "ece", "oe")


def statistics() -> dict[str, tuple[Replicates, bool]]:
    """Returns, for every name that `bootstrap_intervals` takes, its replicates and whether it needs a bin count."""
    return {
        row.key.removesuffix(f"_{row.bins}"): (row.interval.replicates, row.bins is not None)
        for row in table.METRICS
        if row.interval is not None and row.interval.replicates is not None
    }


def named_replicates(names: Sequence[str], n_bins: Sequence[int]) -> dict[str, Callable[[Resamples], Floats]]:
    """Returns the replicates of the named numbers by their full names, such as "ece_15" for each number of bins."""
    known = statistics()
    for name in names:
        if name not in known:
            raise unknown_name("statistic", name, known)
    for bins in n_bins:
        bin_edges(bins)  # for its check
    found = {name: with_bins(known[name][0], None) for name in names if not known[name][1]}
    binned = [name for name in names if known[name][1]]
    return found | {f"{name}_{bins}": with_bins(known[name][0], bins) for bins in n_bins for name in binned}


def replicates_of(
    run: SortedRun, counts: Counts, wanted: Mapping[str, Callable[[Resamples], Floats]]
) -> dict[str, Floats]:
    """Returns the wanted numbers and the mean losses, `[R]` each, of resamples with `counts[r, i]` of example i."""
    resamples = Resamples(run, counts)
    found = {name: replicates(resamples) for name, replicates in wanted.items()}
    return found | resamples.means()


def intervals_of(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    wanted: Mapping[str, Callable[[Resamples], Floats]],
    losses: Mapping[str, npt.ArrayLike],
    limits: Mapping[str, tuple[float, float]],
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Does what `bootstrap_intervals` does, for numbers given by their replicates and their limits."""
    run = sorted_run(confidence, correct, losses)
    # The sorted set is resampled, so that the result does not depend on the order of the examples.
    run = sorted_run(run.confidence, run.correct, run.losses)
    measured = replicates_of(run, np.ones((1, run.n), np.int64), wanted)
    found = gathered(replicates_of(run, counts, wanted) for counts in resample_counts(run.n, resamples, seed))
    ranges = {**limits, **{name: (float(loss.min()), float(loss.max())) for name, loss in run.losses.items()}}
    return {
        name: interval_around(float(measured[name][0]), found[name], level, *ranges.get(name, (0.0, 1.0)))
        for name in measured
    }


def bootstrap_intervals(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    n_bins: Sequence[int] = (15, 100),
    names: Sequence[str] = USUAL,
    *,
    losses: Mapping[str, npt.ArrayLike] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns confidence intervals, by default for accuracy, and for ECE and OE at each number of bins.

    That of accuracy is Wilson's (1927), without resamples.  All others are made by the nonparametric bootstrap (Efron
    & Tibshirani, 1993): the examples are drawn with replacement, `resamples` times, and all numbers use the same
    resamples.  The interval spans the percentiles (1 - level)/2 and (1 + level)/2 of the replicates, minus the
    bootstrap's estimate of the bias (the mean of the replicates minus the measured value).  Without this correction the
    interval of ECE lies too high, often above the measured value, because resampling adds noise.  The interval is for
    the mean over test sets of this size; compare it with `noise_floor`, not with zero.

    docs/metrics.md has how often the intervals of 95 % hold: about as often for means, more often for calibration
    errors of nearly calibrated networks, far less often for mce.

    Args:
      confidence: `[N]` in [0, 1], N >= 1.
      correct: bool `[N]`.
      n_bins: bin counts M, each >= 1.
      names: any of accuracy, confidence_minus_accuracy, smooth_ece, and, for each M: ece, ece_l2, mce, oe,
        ece_over, ece_under, debiased_ece_l1, debiased_ece_l2, brier_reliability, brier_resolution, brier_uncertainty
        (all of equally wide bins), adaptive_ece.
      losses: further numbers that are means over the examples, by name, `[N]` each and finite, such as
        `{"nll": nll_of_each(..), "brier": brier_of_each(..)}`.
      resamples: at least 1.
      level: in (0, 1).
      seed: the result is a function of the arguments and does not depend on the order of examples.

    Returns:
      `{"accuracy": .., "ece_15": .., "oe_15": .., ..}`, with M appended to the names of numbers that use bins.
      Each interval contains the measured value and stays within the range of the number.
    """
    wanted = named_replicates(names, n_bins)
    _check_losses(losses or {})
    limits = {row.key: row.limits for row in table.METRICS}
    resampled = {name: replicates for name, replicates in wanted.items() if name != "accuracy"}
    found = intervals_of(confidence, correct, resampled, losses or {}, limits, resamples, level, seed)
    if "accuracy" not in wanted:
        return found
    return {"accuracy": wilson_interval(int(np.count_nonzero(correct)), len(np.asarray(correct)), level), **found}


def _check_losses(losses: Mapping[str, npt.ArrayLike]) -> None:
    for name in losses:
        if name in statistics():
            raise InputError(f"losses name {name!r}, which is a number of the confidences; expected another name")


def paired_bootstrap_differences(
    confidence_a: npt.ArrayLike,
    correct_a: npt.ArrayLike,
    confidence_b: npt.ArrayLike,
    correct_b: npt.ArrayLike,
    n_bins: Sequence[int] = (15,),
    names: Sequence[str] = USUAL,
    *,
    losses_a: Mapping[str, npt.ArrayLike] | None = None,
    losses_b: Mapping[str, npt.ArrayLike] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Returns numbers of run a minus those of run b on the same test set, with intervals.

    Each resample takes the same examples for both runs, so variation that they share cancels.  The interval is
    made by the bootstrap, as in `bootstrap_intervals`, but that of accuracy is Tango's (1998) where both runs are right
    on the same examples.  It covers the sampling of the test set, not that of training seeds.

    Run b has the same examples in the same order, and losses of the same names.  The other arguments are those of
    `bootstrap_intervals`.

    Returns:
      `{"accuracy": .., "ece_15": .., "oe_15": ..}`, each within [-1, 1], except for losses (unbounded) and
      confidence_minus_accuracy (within [-2, 2]).
    """
    wanted = named_replicates(names, n_bins)
    _check_losses({**(losses_a or {}), **(losses_b or {})})
    run_a, run_b = sorted_run(confidence_a, correct_a, losses_a), sorted_run(confidence_b, correct_b, losses_b)
    if run_a.n != run_b.n:
        raise InputError(f"the runs have {run_a.n} and {run_b.n} examples; expected the same test set for both")
    if run_a.losses.keys() != run_b.losses.keys():
        raise InputError(
            f"losses_a names {sorted(run_a.losses)} and losses_b {sorted(run_b.losses)}; expected the same names"
        )

    def difference(counts: Counts) -> dict[str, Floats]:
        a, b = replicates_of(run_a, counts, wanted), replicates_of(run_b, counts, wanted)
        return {name: a[name] - b[name] for name in a}

    measured = difference(np.ones((1, run_a.n), np.int64))
    rows = max(1, PAIR_CHUNK // run_a.n)
    replicates = gathered(difference(counts) for counts in resample_counts(run_a.n, resamples, seed, rows))
    furthest = {"confidence_minus_accuracy": 2.0} | dict.fromkeys(run_a.losses, np.inf)
    found = {
        name: difference_around(float(measured[name][0]), replicates[name], level, furthest.get(name, 1.0))
        for name in measured
    }
    if "accuracy" in found and np.array_equal(np.asarray(correct_a), np.asarray(correct_b)):
        found["accuracy"] = no_difference(run_a.n, level)
    return found


def paired_bootstrap_auroc_difference(
    score_in_a: npt.ArrayLike,
    score_out_a: npt.ArrayLike,
    score_in_b: npt.ArrayLike,
    score_out_b: npt.ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Returns AUROC of run a minus that of run b on the same two data sets, with its interval.

    In-distribution and OOD examples are resampled separately.  Each resample takes the same examples for both runs.
    Where both AUROCs are 1, or both 0, the interval is that of `no_difference` for the pairs of `auroc_interval`.

    The scores of run b are of the same examples as those of run a, in the same order.
    """
    inside_a, outside_a = check_scores("score_in_a", score_in_a), check_scores("score_out_a", score_out_a)
    inside_b, outside_b = check_scores("score_in_b", score_in_b), check_scores("score_out_b", score_out_b)
    sizes_a, sizes_b = (len(inside_a), len(outside_a)), (len(inside_b), len(outside_b))
    if sizes_a != sizes_b:
        raise InputError(
            f"the runs have {sizes_a} and {sizes_b} scores (in, out); expected the same data sets for both"
        )

    auroc_a, auroc_b = _auroc_of_resamples(inside_a, outside_a), _auroc_of_resamples(inside_b, outside_b)

    def difference(counts_in: Counts, counts_out: Counts) -> Floats:
        return auroc_a(counts_in, counts_out) - auroc_b(counts_in, counts_out)

    measured = difference(*(np.ones((1, size), np.int64) for size in sizes_a))
    rows = max(1, PAIR_CHUNK // max(sizes_a))
    resampled = (resample_counts(size, resamples, [seed, half], rows) for half, size in enumerate(sizes_a))
    replicates = np.concatenate([difference(*pair) for pair in zip(*resampled, strict=True)])
    ends = {float(auroc(*(np.ones((1, size), np.int64) for size in sizes_a))[0]) for auroc in (auroc_a, auroc_b)}
    if ends in ({0.0}, {1.0}):
        return no_difference(min(sizes_a), level)
    return difference_around(float(measured[0]), replicates, level)


def _auroc_of_resamples(score_in: Floats, score_out: Floats) -> Callable[[Counts, Counts], Floats]:
    """Returns a function from how often each score occurs in each resample, `[R, N]` and `[R, M]`, to `[R]` AUROCs."""
    order = np.argsort(score_in)
    left, right = (np.searchsorted(score_in[order], score_out, side=side) for side in ("left", "right"))

    def areas(counts_in: Counts, counts_out: Counts) -> Floats:
        below = np.concatenate(
            [np.zeros((len(counts_in), 1), np.int64), counts_in[:, order].cumsum(axis=1, dtype=np.int64)], axis=1
        )
        pairs = (counts_out * (below[:, left] + below[:, right])).sum(axis=1)
        return np.asarray(pairs / (2 * len(score_in) * len(score_out)), np.float64)

    return areas
