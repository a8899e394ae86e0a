import itertools

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.errors import InputError
from mixup_jax.metrics import aupr_in, aupr_out, auroc, fpr95_id, fpr95_ood

# Few distinct values, so that ties abound.
tied = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=45)
untied = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=45)
scores = st.one_of(tied, untied)


def pooled(score_in, score_out):
    return np.r_[np.zeros(len(score_in)), np.ones(len(score_out))], np.r_[score_in, score_out]


@settings(deadline=None, max_examples=80)
@given(scores, scores)
def test_auroc_counts_pairs_with_ties_as_one_half(score_in, score_out):
    wins = sum((out > inside) + (out == inside) / 2 for inside, out in itertools.product(score_in, score_out))
    assert auroc(score_in, score_out) == pytest.approx(wins / (len(score_in) * len(score_out)), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(scores, scores)
def test_auroc_equals_scikit_learn_and_turns_over_when_the_sets_change_places(score_in, score_out):
    truth, score = pooled(score_in, score_out)
    assert auroc(score_in, score_out) == pytest.approx(sklearn.metrics.roc_auc_score(truth, score), abs=1e-12)
    assert auroc(score_in, score_out) == pytest.approx(1 - auroc(score_out, score_in), abs=1e-12)


@settings(deadline=None, max_examples=80)
@given(scores, scores)
def test_aupr_equals_scikit_learns_average_precision(score_in, score_out):
    truth, score = pooled(score_in, score_out)
    golden_out = sklearn.metrics.average_precision_score(truth, score)
    golden_in = sklearn.metrics.average_precision_score(1 - truth, -score)
    assert aupr_out(score_in, score_out) == pytest.approx(golden_out, abs=1e-12)
    assert aupr_in(score_in, score_out) == pytest.approx(golden_in, abs=1e-12)


@settings(deadline=None, max_examples=80)
@given(scores, scores)
def test_fpr95_equals_a_search_over_all_thresholds(score_in, score_out):
    inside, outside = np.array(score_in), np.array(score_out)
    thresholds = np.r_[inside, outside]
    catching = max(t for t in thresholds if np.mean(outside >= t) >= 0.95)
    accepting = min(t for t in thresholds if np.mean(inside <= t) >= 0.95)
    assert fpr95_ood(score_in, score_out) == pytest.approx(np.mean(inside >= catching))
    assert fpr95_id(score_in, score_out) == pytest.approx(np.mean(outside <= accepting))


@settings(deadline=None, max_examples=40)
@given(scores, scores)
def test_the_two_fpr95_are_mirror_images(score_in, score_out):
    assert fpr95_id(score_in, score_out) == fpr95_ood(-np.array(score_out), -np.array(score_in))


@settings(deadline=None, max_examples=40)
@given(tied, tied)
def test_only_the_order_of_scores_matters(score_in, score_out):
    def moved(score):
        return np.exp(np.array(score)) * 3 - 7

    for metric in (auroc, aupr_in, aupr_out, fpr95_ood, fpr95_id):
        assert metric(score_in, score_out) == metric(moved(score_in), moved(score_out))


def test_exactly_95_percent_is_enough():
    # 19 of 20 lie at 1 or above, so the threshold is 1 and not 0.
    outside = np.r_[0.0, np.arange(1.0, 20.0)]
    assert fpr95_ood([0.0, 0.5, 1.0, 2.0], outside) == 0.5
    assert fpr95_id(-outside, [0.0, -0.5, -1.0, -2.0]) == 0.5


def test_perfect_and_useless_scores():
    assert [metric([0.0, 1.0], [2.0, 3.0]) for metric in (auroc, aupr_in, aupr_out)] == [1.0] * 3
    assert [metric([0.0, 1.0], [2.0, 3.0]) for metric in (fpr95_ood, fpr95_id)] == [0.0] * 2
    same_in, same_out = np.zeros(30), np.zeros(10)
    assert auroc(same_in, same_out) == 0.5
    assert (aupr_in(same_in, same_out), aupr_out(same_in, same_out)) == (0.75, 0.25)
    assert (fpr95_ood(same_in, same_out), fpr95_id(same_in, same_out)) == (1.0, 1.0)


def test_minus_infinity_is_the_lowest_score():
    inside, outside = [-np.inf, -np.inf, -3.0], [-np.inf, -1.0]
    lowest = [-9.0, -9.0, -3.0], [-9.0, -1.0]
    for metric in (auroc, aupr_in, aupr_out, fpr95_ood, fpr95_id):
        assert metric(inside, outside) == metric(*lowest)


@pytest.mark.parametrize("metric", [auroc, aupr_in, aupr_out, fpr95_ood, fpr95_id])
def test_empty_sets_nan_and_matrices_are_refused(metric):
    with pytest.raises(InputError, match=r"score_in has shape \[0\]"):
        metric([], [1.0])
    with pytest.raises(InputError, match=r"score_out has shape \[1, 1\]"):
        metric([1.0], [[1.0]])
    with pytest.raises(InputError, match=r"score_out contains NaN, the first at \[1\]"):
        metric([1.0], [0.0, np.nan])
