import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.report.claims import (
    AS_CLAIMED,
    CONTRARY,
    HIGHER,
    LOWER,
    UNDECIDED,
    caveat,
    claims,
    confidence_remark,
    coverage,
    find,
    headline,
    judge,
    temperature_remark,
)
from mixup_jax.report.comparisons import mean_interval
from mixup_jax.report.groups import summarise

numbers = st.floats(-1, 1, allow_nan=False)
seeds = st.lists(st.floats(0, 1), min_size=1, max_size=4)
OPPOSITE = {AS_CLAIMED: CONTRARY, CONTRARY: AS_CLAIMED, UNDECIDED: UNDECIDED}
ECE = claims([])[0]


@settings(deadline=None, max_examples=200)
@given(seeds, seeds, numbers, numbers, st.sampled_from(claims(["mnist"])))
def test_swapping_the_roles_flips_the_verdict(one, other, end, start, claim):
    low, high = min(end, start), max(end, start)
    forth = find(claim, summarise(one), summarise(other), (low, high))
    back = find(claim, summarise(other), summarise(one), (-high, -low))
    assert back.outcome == OPPOSITE[forth.outcome]
    assert back.difference == -forth.difference


@settings(deadline=None, max_examples=50)
@given(seeds, st.floats(0, 1))
def test_equal_runs_are_undecided(values, reach):
    finding = find(ECE, summarise(values), summarise(values), (-reach, reach))
    assert finding.outcome == UNDECIDED
    assert finding.difference == 0


@pytest.mark.parametrize(
    ("difference", "interval", "error", "direction", "expected"),
    [
        (-0.05, (-0.06, -0.04), None, LOWER, AS_CLAIMED),
        (-0.05, (-0.06, -0.04), None, HIGHER, CONTRARY),
        (0.05, (0.04, 0.06), None, LOWER, CONTRARY),
        (0.05, (0.04, 0.06), None, HIGHER, AS_CLAIMED),
        (0.05, (-0.01, 0.06), None, HIGHER, UNDECIDED),
        (0.05, (0.0, 0.06), None, HIGHER, UNDECIDED),
        (0.05, (-0.06, -0.04), None, HIGHER, UNDECIDED),
        (0.05, None, None, HIGHER, UNDECIDED),
        (0.05, None, 0.02, HIGHER, AS_CLAIMED),
        (0.05, None, 0.025, HIGHER, UNDECIDED),
        (-0.05, (-0.06, -0.04), 0.03, LOWER, UNDECIDED),
        (-0.05, (-0.06, -0.04), 0.02, LOWER, AS_CLAIMED),
    ],
)
def test_judge_by_hand(difference, interval, error, direction, expected):
    assert judge(difference, interval, error, direction)[0] == expected


def test_spread_over_seeds_can_leave_a_clear_interval_undecided():
    baseline, mixup = summarise([0.02, 0.10]), summarise([0.01, 0.05])
    assert find(ECE, baseline, mixup, (-0.04, -0.02)).outcome == UNDECIDED
    close = summarise([0.059, 0.061]), summarise([0.029, 0.031])
    finding = find(ECE, *close, (-0.04, -0.02))
    assert finding.outcome == AS_CLAIMED
    assert finding.standard_error == pytest.approx(np.sqrt(2 * np.var([0.059, 0.061], ddof=1) / 2))


@pytest.mark.parametrize(("seeds", "said"), [((1, 1), True), ((3, 1), True), ((1, 2), True), ((2, 2), False)])
def test_a_single_seed_on_either_side_is_said_with_the_headline(seeds, said):
    assert ("single seed" in caveat(*seeds)) == said


def test_headline_counts_every_outcome():
    better = find(ECE, summarise([0.1]), summarise([0.05]), (-0.06, -0.04))
    worse = find(ECE, summarise([0.05]), summarise([0.1]), (0.04, 0.06))
    same = find(ECE, summarise([0.05]), summarise([0.05]), (-0.01, 0.01))
    assert headline([better, worse, worse, same]) == (
        "Of 4 findings, 1 is as the paper says, 2 are contrary to it, and 1 is undecided."
    )
    assert headline([worse, worse]) == "All 2 findings are contrary to the paper."


def test_every_claim_of_the_paper_is_judged():
    by_key = {claim.key: claim.direction for claim in claims(["mnist"])}
    assert by_key == {
        "ece_15": LOWER,
        "ece_100": LOWER,
        "oe_15": LOWER,
        "oe_100": LOWER,
        "ood/mnist/mean_confidence": LOWER,
        "ood/mnist/auroc": HIGHER,
        "accuracy": HIGHER,
    }


def test_under_confidence_is_said_and_weighed():
    assert confidence_remark(0.05, 0.01, 0.9, 10_000) == ""
    assert "noise" not in confidence_remark(0.05, -0.05, 0.9, 10_000)
    assert "under-confident" in confidence_remark(0.05, -0.05, 0.9, 10_000)
    assert "within the noise" in confidence_remark(0.05, -0.005, 0.9, 10_000)


@pytest.mark.parametrize(
    ("after", "interval", "words"),
    [(0.01, (-0.005, 0.005), "as good as"), (0.005, (0.003, 0.007), "below mixup's"), (0.03, (-0.03, -0.01), "above")],
)
def test_temperature_scaling_is_compared_with_mixup(after, interval, words):
    assert words in temperature_remark(0.08, after, 0.01, None, interval, None)


def test_coverage_says_what_single_seeds_cannot_show():
    assert "do not cover the variation between training runs" in coverage(1, 1)
    assert "one side" in coverage(1, 3)
    assert "standard error over seeds" in coverage(3, 3)


def test_mean_interval_covers_the_true_mean_19_times_of_20():
    rng = np.random.default_rng(1)
    intervals = [mean_interval(rng.normal(0.3, 1.0, 400)) for _ in range(600)]
    assert np.mean([low <= 0.3 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.03)
    assert mean_interval(np.array([0.5])) == (0.5, 0.5)
