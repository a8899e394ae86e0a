import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.errors import InputError
from mixup_jax.metrics import accuracy_at_coverage, aurc, e_aurc, risk_coverage

examples = st.lists(st.tuples(st.integers(-2, 2).map(float), st.booleans()), min_size=1, max_size=40)


def halves(pairs):
    return np.array([score for score, _ in pairs]), np.array([correct for _, correct in pairs])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2).map(float), st.booleans()), min_size=1, max_size=6))
def test_ties_are_the_mean_over_all_orders(pairs):
    score, correct = halves(pairs)
    curves = []
    for order in itertools.permutations(range(len(pairs))):
        ranked = sorted(order, key=lambda i: score[i])
        curves.append(np.cumsum(~correct[ranked]) / np.arange(1, len(pairs) + 1))
    np.testing.assert_allclose(risk_coverage(score, correct).risk, np.mean(curves, axis=0), atol=1e-12)
    assert aurc(score, correct) == pytest.approx(np.mean(curves))


@settings(deadline=None, max_examples=60)
@given(examples, st.integers(0, 100))
def test_order_and_scale_do_not_matter_and_the_last_risk_is_the_error_rate(pairs, seed):
    score, correct = halves(pairs)
    shuffled = np.random.default_rng(seed).permutation(len(pairs))
    curve = risk_coverage(score, correct)
    np.testing.assert_allclose(curve.risk, risk_coverage(np.exp(score[shuffled]), correct[shuffled]).risk, atol=1e-12)
    assert curve.risk[-1] == pytest.approx(1 - correct.mean())
    assert curve.coverage[-1] == 1.0
    assert accuracy_at_coverage(score, correct, 1.0) == pytest.approx(correct.mean())
    assert 0 <= e_aurc(score, correct) <= aurc(score, correct) + 1e-12 <= 1 + 1e-12


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.data())
def test_a_perfect_ranking_has_no_excess_and_a_useless_one_the_error_rate(n, data):
    errors = data.draw(st.integers(0, n))
    correct = np.arange(n) < n - errors
    closed_form = sum(max(k - (n - errors), 0) / k for k in range(1, n + 1)) / n
    assert aurc(np.arange(n), correct) == pytest.approx(closed_form, abs=1e-12)
    assert e_aurc(np.arange(n), correct) == pytest.approx(0, abs=1e-12)
    assert aurc(np.zeros(n), correct) == pytest.approx(errors / n, abs=1e-12)


def test_a_random_ranking_is_near_the_error_rate():
    rng = np.random.default_rng(0)
    assert aurc(rng.random(20_000), rng.random(20_000) < 0.7) == pytest.approx(0.3, abs=0.03)


def test_coverage_is_a_decimal_number_and_is_rounded_up():
    correct = np.arange(100) < 55
    assert accuracy_at_coverage(np.arange(100), correct, 0.55) == 1.0  # 0.55 * 100 is 55.00000000000001 in float64
    assert accuracy_at_coverage(np.arange(100), correct, 0.551) == 55 / 56
    assert accuracy_at_coverage(np.zeros(100), correct, 0.5) == pytest.approx(0.55)


def test_bad_input():
    for function in (risk_coverage, aurc, e_aurc):
        with pytest.raises(InputError, match="correct has shape"):
            function([0.0, 1.0], [True])
        with pytest.raises(InputError, match="correct has shape"):
            function([0.0, 1.0], [0, 2])
        with pytest.raises(InputError, match="score contains NaN"):
            function([np.nan], [True])
    for coverage in (0.0, 1.1, np.nan):
        with pytest.raises(InputError, match="coverage is"):
            accuracy_at_coverage([0.0], [True], coverage)
