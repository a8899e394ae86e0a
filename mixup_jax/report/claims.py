"""Judges the paper's claims by the differences between a baseline and mixup.

The claims are those of Thulasidasan et al. (2019): networks trained with mixup are better
calibrated, less over-confident, less confident on data unlike their training data and better at
telling it apart, and no less accurate.  Pure functions of numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mixup_jax.report.groups import Summary

AS_CLAIMED = "as the paper says"
CONTRARY = "contrary to the paper"
UNDECIDED = "undecided"

LOWER, HIGHER = -1, 1
Interval = tuple[float, float]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper about one number.

    Attributes:
      key: the number's key in results.json.
      text: the claim in words.
      subject: the number in words, to open a sentence with.
      direction: how mixup changes the number according to the paper, `LOWER` or `HIGHER`.
      bins: how many bins the number is computed with; None if it needs none.
    """

    key: str
    text: str
    subject: str
    direction: int
    bins: int | None = None


class Remark(NamedTuple):
    """Something else that a reader must know: one or more sentences, and their subject."""

    about: str
    text: str


@dataclass(frozen=True)
class Finding:
    """The result of judging one claim: the number without and with mixup, and their difference, mixup minus baseline.

    `interval` is the 95 % bootstrap interval of the difference over test examples, `standard_error` that over seeds,
    None if a side has a single seed; `outcome` is `AS_CLAIMED`, `CONTRARY` or `UNDECIDED`.  `examples`, the number of
    test examples behind the numbers, and `reason` are words.
    """

    claim: Claim
    examples: str
    baseline: Summary
    mixup: Summary
    difference: float
    interval: Interval | None
    standard_error: float | None
    outcome: str
    reason: str


def claims(ood_names: Sequence[str]) -> list[Claim]:
    """Returns the claims that are judged, including those about each out-of-distribution set."""
    calibration = [Claim(f"ece_{m}", f"Better calibrated: lower ECE ({m} bins)", "ECE", LOWER, m) for m in (15, 100)]
    confidence = [Claim(f"oe_{m}", f"Less over-confident: lower OE ({m} bins)", "OE", LOWER, m) for m in (15, 100)]
    unlike = []
    for name in ood_names:
        key = f"ood/{name}"
        unlike.append(Claim(f"{key}/mean_confidence", f"Less confident on {name}", "Mean confidence", LOWER))
        unlike.append(Claim(f"{key}/auroc", f"Better at telling {name} apart: higher AUROC", "AUROC", HIGHER))
    accuracy = Claim("accuracy", "Accuracy is not lower", "Accuracy", HIGHER)
    return [*calibration, *confidence, *unlike, accuracy]


def seed_error(baseline: Summary, mixup: Summary) -> float | None:
    """Returns the standard error of the difference of two means over seeds; None if a side has one seed."""
    if baseline.std is None or mixup.std is None:
        return None
    return math.sqrt(baseline.std**2 / baseline.n_seeds + mixup.std**2 / mixup.n_seeds)


def judge(difference: float, interval: Interval | None, error: float | None, direction: int) -> tuple[str, str]:
    """Decides whether a difference is what the paper claims.

    It is decided only if the whole interval has the sign of the difference and, if both sides have
    several seeds, the difference is more than twice its standard error over seeds.

    The difference is mixup minus baseline, `interval` its 95 % interval over test examples, `error` its standard error
    over seeds, `direction` `LOWER` or `HIGHER`.  Returns the outcome and the reason for it.
    """
    if interval is None and error is None:
        return UNDECIDED, "no interval could be computed"
    if difference == 0:
        return UNDECIDED, "no difference"
    if interval is not None and not (min(interval) > 0 if difference > 0 else max(interval) < 0):
        return UNDECIDED, "the interval includes 0"
    if error is not None and abs(difference) <= 2 * error:
        return UNDECIDED, "no more than twice its standard error over seeds"
    outcome = AS_CLAIMED if difference * direction > 0 else CONTRARY
    return outcome, "lower with mixup" if difference < 0 else "higher with mixup"


def find(
    claim: Claim, baseline: Summary, mixup: Summary, interval: Interval | None = None, examples: str = ""
) -> Finding:
    """Judges a claim by two summaries of its number."""
    difference = mixup.mean - baseline.mean
    error = seed_error(baseline, mixup)
    outcome, reason = judge(difference, interval, error, claim.direction)
    return Finding(claim, examples, baseline, mixup, difference, interval, error, outcome, reason)


def headline(findings: Sequence[Finding]) -> str:
    """Returns the outcome of all findings in one sentence."""
    total = len(findings)
    as_claimed, contrary = (sum(found.outcome == outcome for found in findings) for outcome in (AS_CLAIMED, CONTRARY))
    for count, words in ((as_claimed, AS_CLAIMED), (contrary, CONTRARY), (total - as_claimed - contrary, UNDECIDED)):
        if count == total:
            return f"All {total} findings are {words}."
    return (
        f"Of {total} findings, {_are(as_claimed)} as the paper says, {_are(contrary)} contrary to it, and "
        f"{_are(total - as_claimed - contrary)} undecided."
    )


def caveat(baseline_seeds: int, mixup_seeds: int) -> str:
    """Returns the caveat of the headline; empty if both sides have several seeds."""
    if baseline_seeds > 1 and mixup_seeds > 1:
        return ""
    return " With a single seed this holds for these very networks: training again with other seeds may tell otherwise."


def _are(count: int) -> str:
    return {0: "none is", 1: "1 is"}.get(count, f"{count} are")


def coverage(baseline_seeds: int, mixup_seeds: int) -> str:
    """Returns what the intervals cover, and what they do not."""
    text = (
        "the 95 % intervals are paired over the test examples (bootstrap; for mean confidence, normal): they cover the "
        "choice of test examples"
    )
    if baseline_seeds > 1 and mixup_seeds > 1:
        return (
            f"{text}, with their ends averaged over pairs of these very runs ({baseline_seeds} without and "
            f"{mixup_seeds} with mixup). The variation between training runs is judged apart: a difference of no more "
            "than twice its standard error over seeds is called undecided. With few seeds that error is itself only "
            "roughly known."
        )
    sides = "both sides" if baseline_seeds == mixup_seeds else "one side"
    return (
        f"{text} and nothing else. With one seed on {sides} they do not cover the variation between training runs: "
        "another seed could turn a small difference around."
    )


def confidence_remark(baseline_gap: float, mixup_gap: float, accuracy: float, n: int) -> str:
    """Returns a sentence on whether the network trained with mixup is over- or under-confident on average.

    Gaps are mean confidence minus accuracy, `accuracy` is with mixup.  A gap below two standard errors of the accuracy
    of n test examples is called small.
    """
    if mixup_gap >= 0:
        return ""
    side = "over-confident" if baseline_gap > 0 else "under-confident"
    small = abs(mixup_gap) <= 2 * math.sqrt(accuracy * (1 - accuracy) / n)
    weight = ", which is within the noise of a test set of this size" if small else ""
    return (
        f"with mixup the network is under-confident on the whole, its mean confidence {-mixup_gap:.4f} below its "
        f"accuracy{weight}; without mixup it is {side} by {abs(baseline_gap):.4f}."
    )


def temperature_remark(
    before: float, after: float, mixup: float, mixup_after: float | None, interval: Interval | None, error: float | None
) -> str:
    """Returns a remark that compares temperature scaling of the baseline with mixup as trained, by ECE.

    ECE has 15 bins: the baseline's before and after temperature scaling, and mixup's; `interval` is that (95 %) of
    `mixup - after`, `error` its standard error over seeds.
    """
    difference = mixup - after
    outcome, reason = judge(difference, interval, error, LOWER)
    if outcome == UNDECIDED:
        relation = f"as good as mixup's {mixup:.4f} as far as these runs can tell ({reason})"
    elif outcome == CONTRARY:
        relation = f"below mixup's {mixup:.4f}: scaling alone does more for calibration than mixup here"
    else:
        relation = f"still above mixup's {mixup:.4f}"
    both = "" if mixup_after is None else f" With both scaled, mixup's is {mixup_after:.4f}."
    verb = "brings" if after < before else "takes"
    return (
        f"fitting one number on held-out data {verb} the baseline's ECE (15 bins) from "
        f"{before:.4f} to {after:.4f}, {relation}.{both}"
    )


def ood_temperature_remark(
    confidence: float,
    confidence_after: float,
    auroc: float,
    auroc_after: float,
    mixup_confidence: float,
    mixup_auroc: float,
) -> str:
    """Returns the same comparison on an out-of-distribution set, by mean confidence and AUROC."""
    return (
        f"temperature scaling takes the baseline's mean confidence from {confidence:.4f} to "
        f"{confidence_after:.4f} (mixup as trained: {mixup_confidence:.4f}) and its AUROC from {auroc:.4f} to "
        f"{auroc_after:.4f} (mixup: {mixup_auroc:.4f})."
    )
