import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics import logits as reading

seeds = st.integers(0, 10**6)


def draw(seed, n=50, classes=4, size=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * size
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    logits[:, 0] = rng.normal(size=n) * size  # one class at least is possible
    return logits, rng.integers(-1, classes, n)


@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from([0.01, 1.0, 3.0, 100.0, 1e4]), st.sampled_from([0.3, 1.0, 7.0]))
def test_examples_equal_the_metrics_of_whole_arrays(seed, size, temperature):
    logits, labels = draw(seed, size=size)
    examples = metrics.examine(logits, labels, temperature)
    scaled = logits / temperature
    np.testing.assert_array_equal(examples.confidence, metrics.max_probability(scaled))
    np.testing.assert_allclose(examples.msp, metrics.msp_score(scaled), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(examples.entropy, metrics.entropy_score(scaled), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(examples.energy, metrics.energy_score(scaled), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(examples.max_logit, metrics.max_logit_score(scaled))
    known = examples.only_labelled()
    assert len(known) == (labels >= 0).sum()
    if len(known):
        kept = scaled[labels >= 0], labels[labels >= 0]
        assert -known.log_likelihood.mean() == pytest.approx(metrics.nll(*kept), rel=1e-12, abs=1e-12)
        assert known.brier.mean() == pytest.approx(metrics.brier(*kept), abs=1e-12)
        np.testing.assert_array_equal(known.correct, metrics.confidence_and_correct(*kept)[1])
    assert np.isnan(examples.brier[labels < 0]).all()


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(1, 400))
def test_the_size_of_a_block_changes_nothing(seed, block):
    logits, labels = draw(seed, size=30.0)
    labels = np.maximum(labels, 0)
    once, temperature = metrics.examine(logits, labels), metrics.fit_temperature(logits, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        again = metrics.examine(logits, labels)
        assert metrics.fit_temperature(logits, labels) == pytest.approx(temperature, rel=1e-12)
    for field in fields(once):
        np.testing.assert_allclose(getattr(again, field.name), getattr(once, field.name), rtol=1e-12, atol=1e-14)


@settings(deadline=None, max_examples=20)
@given(seeds, st.lists(st.integers(0, 50), max_size=4))
def test_merged_tallies_equal_one_of_everything(seed, cuts):
    logits, labels = draw(seed, size=1.0)
    labels = np.where(np.isfinite(logits[np.arange(50), labels]), labels, -1)
    whole, merged = metrics.tally(logits, labels), metrics.Tally.empty()
    for part in np.split(np.arange(50), sorted(cuts)):
        if len(part):
            merged = merged.merge(metrics.tally(logits[part], labels[part]))
    assert (merged.n, merged.correct) == (whole.n, whole.correct)
    for name in ("accuracy", "nll", "brier", "mean_confidence"):
        assert getattr(merged, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    for ours, theirs in zip(merged.bins, whole.bins, strict=True):
        np.testing.assert_array_equal(ours.count, theirs.count)
        assert metrics.ece(ours) == pytest.approx(metrics.ece(theirs), abs=1e-12)


def test_tallies_of_other_bins_and_of_nothing_are_refused():
    with pytest.raises(InputError, match="cannot be merged"):
        metrics.Tally.empty((15,)).merge(metrics.Tally.empty())
    with pytest.raises(InputError, match="no examples"):
        _ = metrics.Tally.empty().nll


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from([0.1, 1.0, 10.0]), st.integers(-1000, 1000))
def test_scores_equal_scipy_and_say_what_a_constant_does(seed, size, constant):
    logits = np.random.default_rng(seed).normal(size=(20, 5)) * size
    p = scipy.special.softmax(logits, axis=1)
    entropy = np.exp(metrics.entropy_score(logits))
    np.testing.assert_allclose(entropy, scipy.stats.entropy(p, axis=1), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(metrics.energy_score(logits), -scipy.special.logsumexp(logits, axis=1), rtol=1e-12)
    for temperature in (0.5, 4.0):
        golden = -temperature * scipy.special.logsumexp(logits / temperature, axis=1)
        np.testing.assert_allclose(metrics.energy_score(logits, temperature), golden, rtol=1e-11)
    np.testing.assert_array_equal(metrics.max_logit_score(logits), -logits.max(axis=1))
    moved = logits + constant
    for invariant in (metrics.entropy_score, metrics.msp_score):
        np.testing.assert_allclose(invariant(moved), invariant(logits), rtol=1e-8, atol=1e-9)
    for level in (metrics.energy_score, metrics.max_logit_score):
        np.testing.assert_allclose(level(moved), level(logits) - constant, atol=1e-9)


def test_scores_of_extreme_logits():
    sure = np.array([[1e4, 0.0, -np.inf], [2e4, 0.0, -np.inf], [5.0, -np.inf, -np.inf]])
    # H = x (1 + 1e4) to first order, x = exp(-1e4) too small for float64.
    expected = [-1e4 + np.log1p(1e4), -2e4 + np.log1p(2e4), -np.inf]
    np.testing.assert_allclose(metrics.entropy_score(sure), expected, rtol=1e-14)
    np.testing.assert_allclose(metrics.examine(sure).entropy, expected, rtol=1e-14)
    np.testing.assert_array_equal(metrics.energy_score(sure), [-1e4, -2e4, -5.0])
    with pytest.raises(InputError, match="exceed float64"):
        metrics.examine(np.array([[1e307, 0.0]]), temperature=0.01)
    with pytest.raises(InputError, match="temperature of the energy is 0"):
        metrics.energy_score(sure, 0)


BOUNDED = """
import json, resource, sys
import numpy as np
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.runs.formats import load_predictions
from mixup_jax.metrics import logits as reading
from mixup_jax.runs.records import Predictions
from pathlib import Path
reading.MOST_THREADS = 1  # each takes a stack and a few blocks of its own
folder = Path(sys.argv[2])
test = load_predictions(folder / "logits.npy", labels=folder / "labels.npy")
held_out = load_predictions(folder / "val.npy", labels=folder / "val_labels.npy")
# numpy's matrix products take their buffers, of a fixed size, at first use, and so does the compiler of the loops.
np.ones((600, 600)) @ np.ones((600, 600))
evaluate_records(Predictions(np.eye(99, dtype=np.float32), np.arange(99)))
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
document = evaluate_records(test, validation=held_out, ood={"again": held_out})
print(json.dumps(document["results"]["test"]["nll"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what a process allocates on Linux only")
def test_a_memory_mapped_file_is_evaluated_in_bounded_memory(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20_000, 1000), dtype=np.float32)
    labels = rng.integers(0, 1000, 20_000)
    for name, part in (("", slice(2000, None)), ("val", slice(0, 2000))):
        np.save(tmp_path / f"{name or 'logits'}.npy", logits[part])
        np.save(tmp_path / f"{name and name + '_'}labels.npy", labels[part])
    # 72 MB of logits in 40 MB: neither a copy fits, nor a few Booleans for each of them.
    command = [sys.executable, "-c", BOUNDED, str(40 << 20), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == pytest.approx(metrics.nll(logits[2000:], labels[2000:]), rel=1e-12)
