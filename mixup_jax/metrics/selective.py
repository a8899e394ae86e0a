"""Selective prediction: accuracy on the examples of highest confidence."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.detection import check_scores
from mixup_jax.metrics.softmax import Floats, Ints


class RiskCoverage(NamedTuple):
    """The risk-coverage curve of N examples.

    Attributes:
      coverage: float64 `[N]`, the shares 1/N, 2/N, .., 1 of the examples that are answered.
      risk: float64 `[N]`, the share of errors among those answered, in [0, 1]; the last is the error rate.
    """

    coverage: Floats
    risk: Floats


def risk_coverage(score: npt.ArrayLike, correct: npt.ArrayLike) -> RiskCoverage:
    """Returns the risk of answering only the k examples of lowest score, for k = 1 .. N.

    Ties are not broken by position.  The risk is the expectation over all orders of the tied examples: the
    first j of g tied examples with e errors count as j e / g errors.

    A higher score means less confident, such as `msp_score` or the negative of a confidence.
    """
    errors = _expected_errors(score, correct)
    answered = np.arange(1, len(errors) + 1)
    return RiskCoverage(coverage=answered / len(errors), risk=errors / answered)


def aurc(score: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Returns the area under the risk-coverage curve, `1/N sum_k risk_k`, in [0, 1]; lower is better.

    The mean of the N selective risks is the estimator of Geifman et al. (2019, arXiv:1805.08206).  Ties count by
    expectation (see `risk_coverage`), so equal scores give exactly the error rate.
    """
    return float(risk_coverage(score, correct).risk.mean())


def e_aurc(score: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Returns the excess AURC: AURC minus that of a perfect ranking with as many errors, in [0, 1].

    With E errors among N examples a perfect ranking has AURC `1/N sum_{j=1..E} j / (N - E + j)`, the exact
    finite sum (Geifman et al., 2019, approximate it by r + (1 - r) log(1 - r) for the error rate r).
    """
    risk = risk_coverage(score, correct).risk
    n = len(risk)
    errors = round(float(risk[-1]) * n)
    rank = np.arange(1, errors + 1)
    perfect = float((rank / (n - errors + rank)).sum()) / n
    return max(float(risk.mean()) - perfect, 0.0)  # for a perfect ranking, rounding may leave -1e-17


def augrc(score: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Returns the area under the generalised risk-coverage curve, in [0, 1/2]; lower is better.

    The generalised risk at coverage k/N is the number of errors among the k most confident examples, over N: the chance
    that an example is wrong and answered.  The area is by trapezoids, and ties count by expectation, so it is exactly
    `acc (1 - acc) (1 - AUROC of errors) + (1 - acc)^2 / 2` (Traub et al. 2024, arXiv:2407.01032).
    """
    errors = _expected_errors(score, correct)
    return float(errors.sum() - errors[-1] / 2) / len(errors) ** 2


def accuracy_at_coverage(score: npt.ArrayLike, correct: npt.ArrayLike, coverage: float) -> float:
    """Returns the accuracy on the ceil(coverage N) examples of lowest score, in [0, 1].

    Ties at the threshold count by expectation (see `risk_coverage`).  The coverage is taken as the decimal
    number that prints it, so that 0.55 of 100 examples are exactly 55.
    """
    if not 0 < coverage <= 1:
        raise InputError(f"coverage is {coverage}; expected a number above 0 and at most 1")
    risk = risk_coverage(score, correct).risk
    answered = math.ceil(Fraction(str(float(coverage))) * len(risk))
    return 1.0 - float(risk[answered - 1])


def _expected_errors(score: npt.ArrayLike, correct: npt.ArrayLike) -> Floats:
    """Returns the expected number of errors among the k most confident examples, float64 `[N]` for k = 1 .. N."""
    scores = check_scores("score", score)
    outcomes = np.asarray(correct)
    if outcomes.shape != scores.shape or not (outcomes.dtype == bool or np.isin(outcomes, (0, 1)).all()):
        raise InputError(
            f"correct has shape {list(outcomes.shape)} and dtype {outcomes.dtype}; "
            f"expected true or false for each of the {len(scores)} scores"
        )
    order = np.argsort(scores)
    ascending, wrong = scores[order], outcomes[order] == 0
    if (ascending[1:] != ascending[:-1]).all():
        return np.cumsum(wrong, dtype=np.float64)
    starts: Ints = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    sizes = np.diff(np.append(starts, len(scores)))
    errors = np.add.reduceat(wrong.astype(np.int64), starts)
    before = np.cumsum(errors) - errors
    rank = np.arange(1, len(scores) + 1) - np.repeat(starts, sizes)
    # The division comes last, so that the end of each group is exact.
    return np.repeat(before, sizes) + rank * np.repeat(errors, sizes) / np.repeat(sizes, sizes)
