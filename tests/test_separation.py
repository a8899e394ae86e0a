import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.ensemble import mean_of_records
from mixup_jax.evaluation.export import format_table, render
from mixup_jax.evaluation.measure import evaluate_records, examined, ood_entry
from mixup_jax.runs.records import Predictions, logits_of_probabilities


def measure_ood(inside, outside, temperature=None):
    return ood_entry(examined(inside, temperature), examined(outside, temperature), temperature)


def record(seed, n=150, size=2.0, **meta):
    rng = np.random.default_rng(seed)
    return Predictions((rng.normal(size=(n, 4)) * size).astype(np.float32), rng.integers(0, 4, n), meta)


def test_every_score_has_the_numbers_of_scikit_learn_before_and_after_the_temperature():
    inside, outside = record(0), record(1, n=90, size=1.0)
    entry = measure_ood(inside, outside, temperature=2.0)
    for side, temperature in ((entry, 1.0), (entry["after_temperature"], 2.0)):
        z = np.concatenate([inside.logits, outside.logits]).astype(np.float64) / temperature
        p = scipy.special.softmax(z, axis=1)
        golden = {
            "entropy": -(p * np.log(p)).sum(axis=1),
            "energy": -scipy.special.logsumexp(z, axis=1),
            "max_logit": -z.max(axis=1),
        }
        truth = np.r_[np.zeros(150), np.ones(90)]
        assert set(side["scores"]) == set(golden)
        for name, score in golden.items():
            numbers = side["scores"][name]
            assert numbers["auroc"] == pytest.approx(sklearn.metrics.roc_auc_score(truth, score), abs=1e-12)
            assert numbers["aupr_out"] == pytest.approx(sklearn.metrics.average_precision_score(truth, score))
            assert numbers["aupr_in"] == pytest.approx(sklearn.metrics.average_precision_score(1 - truth, -score))
            assert numbers["fpr95_ood"] == np.mean(score[:150] >= np.sort(score[150:])[-86])
            low, high = numbers["intervals"]["auroc"]
            assert low < numbers["auroc"] < high
        assert side["scores"]["energy"]["mean_out"] == pytest.approx(golden["energy"][150:].mean())
    assert entry["intervals"]["auroc"][0] < entry["auroc"]


def test_an_infinite_mean_is_null():
    impossible = Predictions(np.array([[1.0, -np.inf]]), [0])
    scores = measure_ood(impossible, impossible)["scores"]
    assert scores["entropy"]["mean_in"] is None
    assert scores["energy"]["mean_in"] == -1.0


def rounded(record, decimals):
    probability = scipy.special.softmax(record.logits.astype(np.float64), axis=1).round(decimals)
    return Predictions(logits_of_probabilities(probability), record.labels)


@pytest.mark.parametrize("decimals", [15, 4, 3])
def test_scores_that_read_the_level_of_logits_are_null_for_probabilities(decimals):
    inside, outside = record(0, 300), record(1, 200, size=1.0)
    entry = measure_ood(rounded(inside, decimals), rounded(outside, decimals), temperature=2.0)
    for side in (entry, entry["after_temperature"]):
        assert [key for key, numbers in side["scores"].items() if numbers is None] == ["energy", "max_logit"]
        assert set(side["no_information"]) == {"energy", "max_logit"}
        assert "probabilities" in side["no_information"]["energy"]
        assert 0.0 < side["scores"]["entropy"]["auroc"] < 1.0
    logits = measure_ood(inside, outside)
    assert "no_information" not in logits
    assert logits["scores"]["energy"]["auroc"] != 0.5


def test_scores_that_read_the_level_of_logits_are_null_without_the_largest_of_each_row():
    inside, outside = record(0, 300), record(1, 200, size=1.0)
    less = Predictions(outside.logits - outside.logits.max(axis=1, keepdims=True), outside.labels)
    entry = measure_ood(inside, less)
    assert [key for key, numbers in entry["scores"].items() if numbers is None] == ["energy", "max_logit"]
    assert "less the largest" in entry["no_information"]["energy"]
    assert entry["auroc"] == pytest.approx(measure_ood(inside, outside)["auroc"], abs=1e-4)


def test_the_energy_of_an_ensemble_is_null_and_the_table_says_why(tmp_path):
    members = [
        mean_of_records([record(seed, 60), Predictions(record(seed + 5, 60).logits, record(seed, 60).labels)])
        for seed in (0, 1)
    ]
    document = evaluate_records(members[0], ood={"far": members[1]})
    assert document["ood"]["far"]["scores"]["energy"] is None
    table = format_table(document)
    assert "-: the records hold probabilities" in table
    row = next(line for line in table.splitlines() if " energy " in line)
    assert row.split()[-6:] == ["-"] * 6
    for suffix in ("csv", "md", "tex"):
        assert "energy" in render(document, tmp_path / f"x.{suffix}")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40))
def test_the_interval_of_auroc_is_delongs(seed, n, m):
    rng = np.random.default_rng(seed)
    inside, outside = rng.integers(0, 6, n).astype(float), rng.integers(1, 7, m).astype(float)
    wins = (outside[:, None] > inside) + (outside[:, None] == inside) / 2
    shares = [share for share in (wins.mean(axis=1), wins.mean(axis=0)) if len(share) > 1]
    area, variance = wins.mean(), sum(share.var(ddof=1) / len(share) for share in shares)
    low, high = metrics.auroc_interval(inside, outside)
    assert 0 <= low <= metrics.auroc(inside, outside) <= high <= 1
    if 0 < area < 1:
        reach = 1.959963984540054 * np.sqrt(variance) / (area * (1 - area))
        golden = scipy.special.expit(scipy.special.logit(area) + np.array([-reach, reach]))
        assert (low, high) == pytest.approx(tuple(golden), abs=1e-9)
    else:
        pairs = min(n, m)
        golden = scipy.stats.binomtest(int(area) * pairs, pairs).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx(tuple(golden), abs=1e-9)
    mirrored = metrics.auroc_interval(outside, inside)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_the_interval_covers_the_true_auroc_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    truth = 0.5 * (1 + scipy.special.erf(1.0 / 2))  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    for _ in range(400):
        low, high = metrics.auroc_interval(rng.normal(size=80), rng.normal(size=60) + 1)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98
    with pytest.raises(InputError, match="level is 1"):
        metrics.auroc_interval([0.0], [1.0], level=1)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_an_ensemble_has_the_mean_of_the_probabilities(seed, members):
    records = [Predictions(record(seed + k).logits, record(seed).labels) for k in range(members)]
    mean = np.mean([scipy.special.softmax(r.logits.astype(np.float64), axis=1) for r in records], axis=0)
    combined = mean_of_records(records)
    np.testing.assert_allclose(scipy.special.softmax(combined.logits, axis=1), mean, rtol=1e-12)
    assert combined.meta["members"] == members
    assert ("ensemble" in combined.meta) == (members > 1)
    backwards = mean_of_records(records[::-1])
    np.testing.assert_allclose(combined.logits, backwards.logits, rtol=1e-12)


def test_an_ensemble_keeps_small_probabilities_and_what_the_members_agree_on():
    sure = [
        Predictions(np.array([[0.0, -2000.0, -np.inf]]), [1], {"dataset": "a", "seed": s, "step": 3}) for s in (0, 1)
    ]
    combined = mean_of_records(sure)
    assert combined.logits.tolist() == [[0.0, -2000.0, -np.inf]]
    differences = {"mutual_information": 0.0, "disagreement": 0.0}
    assert combined.meta == {"dataset": "a", "members": 2, "ensemble": differences}
    with pytest.raises(InputError, match="member 2 of the ensemble has other examples"):
        mean_of_records([record(0), record(1)])
    with pytest.raises(InputError, match="ensemble of 0 records"):
        mean_of_records([])
