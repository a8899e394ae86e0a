import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics import bin_logits, softmax


def by_confidence(logits, labels, n_bins=15):
    return metrics.bin_confidences(*metrics.confidence_and_correct(logits, labels), n_bins)


def assert_the_same(bins, expected, relative=1e-6):
    np.testing.assert_array_equal(bins.edges, expected.edges)
    np.testing.assert_array_equal(bins.count, expected.count)
    np.testing.assert_array_equal(bins.correct_sum, expected.correct_sum)
    np.testing.assert_allclose(bins.confidence_sum, expected.confidence_sum, rtol=relative)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 3, 10, 63, 64, 200]),
    st.sampled_from([1, 2, 15, 100, 4096]),
    st.sampled_from([np.float16, np.float32, np.float64, ">f4"]),
    st.sampled_from(["plain", "tied", "sharp", "far", "impossible"]),
)
def test_bins_of_logits_are_those_of_their_confidences(seed, classes, n_bins, dtype, kind):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (300, classes))
    if kind == "tied":
        logits = rng.integers(0, 3, logits.shape).astype(float)
    elif kind == "sharp":
        logits *= rng.choice([1, 30], (300, 1))
    elif kind == "far":
        logits += rng.choice([-1000, -70, 0, 70, 1000], (300, 1))
    elif kind == "impossible":
        logits[rng.random(logits.shape) < 0.3] = -np.inf
        logits[:, 0] = 0.0
    logits = logits.astype(dtype)
    labels = rng.integers(0, classes, 300)
    assert_the_same(bin_logits(logits, labels, n_bins), by_confidence(logits, labels, n_bins))


@pytest.mark.parametrize("classes", [3, 64])
def test_confidences_within_rounding_of_an_edge_are_counted_where_float64_puts_them(classes):
    # Far nearer to the edges k / 20 than float32 can tell, on either side, and exactly at some of them.
    rng = np.random.default_rng(0)
    first = rng.integers(11, 20, 2000) / 20 + rng.choice([-1e-8, 0, 1e-8], 2000)
    logits = np.log(np.column_stack([first, *[(1 - first) / (classes - 1)] * (classes - 1)])).astype(np.float32)
    logits[::2] = rng.choice([-3.5, 0.0, 0.25], (1000, 1))  # all classes alike: exactly 1 / K
    labels = rng.integers(0, 2, 2000)
    for n_bins in (20, classes):
        assert_the_same(bin_logits(logits, labels, n_bins), by_confidence(logits, labels, n_bins))


def test_equal_terms_of_many_classes_do_not_add_up_their_roundings():
    for classes, relative in ((4096, 1e-6), (4097, 1e-12), (100_000, 1e-12)):
        logits = np.full((3, classes), [[0.3], [1.7], [-2.1]], np.float32)
        logits[:, 0] += 9.0
        assert_the_same(bin_logits(logits, [0, 0, 1]), by_confidence(logits, [0, 0, 1]), relative)


def test_parts_do_not_show_and_merge(monkeypatch):
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 2, (1000, 7)).astype(np.float32), rng.integers(0, 7, 1000)
    whole = bin_logits(logits, labels)
    assert_the_same(bin_logits(logits[:300], labels[:300]).merge(bin_logits(logits[300:], labels[300:])), whole, 1e-12)
    monkeypatch.setattr(softmax, "_PART", 100)
    assert_the_same(bin_logits(logits, labels), whole, 1e-12)


@pytest.mark.parametrize("classes", [5, 80])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_confidences_refuse_is_refused_with_the_same_words(classes, value):
    logits = np.zeros((300, classes), np.float32)
    logits[211] = value
    words = []
    for function in (bin_logits, metrics.confidence_and_correct):
        with pytest.raises(InputError) as refusal:
            function(logits, np.zeros(300, int))
        words.append(str(refusal.value))
    assert words[0] == words[1]
    assert "211" in words[0]


def test_an_example_without_a_label_is_refused():
    with pytest.raises(InputError, match=r"labels contain 1 times -1"):
        bin_logits(np.zeros((2, 3), np.float32), [0, -1])
