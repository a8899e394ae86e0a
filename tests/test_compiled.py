import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics import binning, softmax
from mixup_jax.metrics import logits as reading

ROOT = Path(__file__).parents[1]
TINY = np.array([5e-324, 1e-310, 2.2250738585072014e-308])  # two of them are not normal numbers


def near_edges(n_bins):
    """All edges and the floats on either side of each, 0 and 1 and the smallest floats."""
    edges = np.linspace(0, 1, n_bins + 1)
    near = np.concatenate([edges, np.nextafter(edges, 2)[:-1], np.nextafter(edges, -1)[1:], TINY, np.arange(8) / 8])
    return near[(near >= 0) & (near <= 1)]


def counted(confidence, correct, n_bins):
    """Counts, sums and right ones of each bin, example by example, by comparing with the edges."""
    edges, sums = np.linspace(0, 1, n_bins + 1), np.zeros((3, n_bins))
    for value, right in zip(np.asarray(confidence, np.float64), correct, strict=True):
        above = [m for m in range(n_bins) if edges[m] < value <= edges[m + 1]]
        sums[:, above[0] if above else 0] += 1, value, right
    return sums


@pytest.mark.parametrize("n_bins", [1, 2, 3, 7, 15, 49, 100])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8"])
def test_bins_are_those_of_a_count_by_hand(n_bins, dtype):
    confidence = near_edges(n_bins).astype(dtype)
    correct = np.arange(len(confidence)) % 3 == 0
    bins = metrics.bin_confidences(confidence, correct, n_bins)
    count, confidence_sum, correct_sum = counted(confidence, correct, n_bins)
    np.testing.assert_array_equal(bins.count, count)
    np.testing.assert_array_equal(bins.correct_sum, correct_sum)
    np.testing.assert_allclose(bins.confidence_sum, confidence_sum, rtol=1e-14)


@pytest.mark.parametrize("n_bins", [4097, 10_000, 123_457])
def test_many_bins_are_those_of_a_search_for_the_edges(n_bins):
    edges = binning.bin_edges(n_bins)
    confidence = np.concatenate([near_edges(n_bins), np.random.default_rng(0).random(10_000)])
    index = binning.equal_width_index(confidence, edges)
    np.testing.assert_array_equal(index, binning.bin_index(confidence, edges))
    bins = metrics.bin_confidences(confidence, np.ones(len(confidence), bool), n_bins)
    np.testing.assert_array_equal(bins.count, np.bincount(index, minlength=n_bins))


def variants(array, folder):
    """The same numbers as they may lie in memory."""
    np.save(folder / "array.npy", array)
    spread = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    spread[..., ::2] = array
    shifted = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
    assert not shifted.flags.aligned
    return {
        "every other": spread[..., ::2],
        "reversed": array[::-1].copy()[::-1],
        "by columns": np.asfortranarray(array),
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "memory-mapped": np.load(folder / "array.npy", mmap_mode="r"),
        "unaligned": shifted,
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 10, 63, 64, 100])
def test_how_arrays_lie_in_memory_changes_no_bit(tmp_path, classes, dtype):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (200, classes)).astype(dtype), rng.integers(0, classes, 200)
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    expected = metrics.bin_confidences(confidence, correct)
    for name, same in variants(logits, tmp_path).items():
        for one, other in zip(metrics.confidence_and_correct(same, labels), (confidence, correct), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    for name, same in variants(confidence, tmp_path).items():
        for right in (correct, np.repeat(correct, 2)[::2], correct.astype(float)):
            np.testing.assert_array_equal(
                metrics.bin_confidences(same, right).confidence_sum, expected.confidence_sum, err_msg=name
            )


@pytest.mark.parametrize("classes", [3, 100])
def test_the_number_of_threads_changes_no_bit(monkeypatch, classes):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (5000, classes)).astype(np.float32), rng.integers(0, classes, 5000)
    monkeypatch.setattr(binning, "_BLOCK", 300)
    for part in ("_PART", "_PART_OF_WIDE"):
        monkeypatch.setattr(softmax, part, 300 * classes)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(reading.os, "cpu_count", lambda threads=threads: threads)
        of_logits = metrics.bin_logits(logits, labels)
        of_confidences = metrics.bin_confidences(*metrics.confidence_and_correct(logits, labels))
        found.append((of_logits.confidence_sum, of_confidences.confidence_sum, of_logits.correct_sum))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 10, 64, 65, 1000])
def test_confidences_are_those_of_twice_the_digits(classes, dtype):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (300, classes)) * rng.choice([0.01, 1, 100, 1e4], (300, 1))
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    logits[:, 0] = rng.choice([-1e30, -1e5, -1e4, -100, -60, -30, -20, 0, 1e4, 1e5, 1e30, -np.inf], 300)
    logits[np.isneginf(logits).all(axis=1), -1] = 0
    logits[:30] -= np.log(np.exp(logits[:30].clip(-600, 600)).sum(axis=1, keepdims=True)) + 1  # all of them negative
    logits[30:60] = rng.normal(0, 1, (30, classes)) + 20 * (np.arange(classes) == classes - 1)
    logits = logits.astype(dtype)
    wide = logits.astype(np.longdouble)
    terms = np.exp(wide - wide.max(axis=1, keepdims=True))
    confidence, correct = metrics.confidence_and_correct(logits, np.zeros(300, int))
    np.testing.assert_allclose(confidence, (1 / terms.sum(axis=1)).astype(float), rtol=3e-15)
    np.testing.assert_array_equal(correct, logits.argmax(axis=1) == 0)
    assert ((confidence >= 1 / classes * (1 - 1e-14)) & (confidence <= 1)).all()


@pytest.mark.parametrize("classes", [3, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_is_the_first_of_equals_whatever_the_signs(classes, dtype):
    rng = np.random.default_rng(0)
    logits = rng.integers(-3, 4, (300, classes)).astype(dtype)
    logits[:100] = -np.abs(logits[:100]) - 1
    logits[100:200] = np.where(rng.random((100, classes)) < 0.5, -0.0, np.minimum(logits[100:200], 0.0))
    for label in range(3):
        _, correct = metrics.confidence_and_correct(logits, np.full(300, label))
        np.testing.assert_array_equal(correct, logits.argmax(axis=1) == label)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("classes", [3, 70])
def test_what_is_no_logit_is_refused_wherever_it_stands(classes, value, dtype):
    for offset in (0, -1e6):  # with it, all of the others are negative
        for place in (0, 1, classes - 1):
            logits = np.full((5, classes), offset, dtype)
            logits[3, place] = value
            with pytest.raises(InputError, match="3"):
                metrics.confidence_and_correct(logits, np.zeros(5, int))


def test_what_is_refused_is_named_by_its_place_among_all_examples(monkeypatch):
    monkeypatch.setattr(binning, "_BLOCK", 30)
    for part in ("_PART", "_PART_OF_WIDE"):
        monkeypatch.setattr(softmax, part, 300)
    confidence, logits = np.full(100, 0.5), np.zeros((100, 10))
    confidence[77], logits[77, 3] = 1.5, np.nan
    with pytest.raises(InputError, match="of example 77"):
        metrics.bin_confidences(confidence, np.ones(100, bool))
    for function in (metrics.bin_logits, metrics.confidence_and_correct):
        with pytest.raises(InputError, match="77"):
            function(logits, np.zeros(100, int))


@pytest.mark.parametrize("classes", [2, 7, 64, 300])
def test_the_exponential_of_any_gap_is_exact_to_rounding(classes):
    # All classes but the first lie this far below it.
    gap = np.concatenate([np.linspace(0, 40, 5001), [1e-300, 1e-17, 100.0, 690.0, 745.0, 1e4, 1e300, np.inf]])
    logits = np.concatenate([np.zeros((len(gap), 1)), np.repeat(-gap[:, None], classes - 1, axis=1)], axis=1)
    expected = 1 / (1 + (classes - 1) * np.exp(-gap.astype(np.longdouble)))
    np.testing.assert_allclose(metrics.max_probability(logits), expected.astype(float), rtol=3e-15)


PROGRAM = """
import sys
import numpy as np
from mixup_jax import metrics
rng = np.random.default_rng(0)
logits, labels = rng.normal(0, 2, (500, 10)), rng.integers(0, 10, 500)
print(repr(metrics.ece(metrics.bin_logits(logits, labels))))
import numba.np.ufunc.parallel as parallel
assert not parallel._is_initialized
"""


def program(package, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(package), **environment},
        cwd=package,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out


@pytest.fixture(name="package")
def own_package(tmp_path):
    """A copy of the package in which nothing is compiled yet."""
    shutil.copytree(ROOT / "mixup_jax", tmp_path / "copy" / "mixup_jax", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


def kept(package):
    return sorted((package / "mixup_jax" / "metrics" / "__pycache__").glob("*.nb[ic]"))


def test_processes_that_compile_at_once_and_files_that_are_damaged_change_no_number(package):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (500, 10)), rng.integers(0, 10, 500)
    expected = f"{metrics.ece(metrics.bin_logits(logits, labels))!r}\n"
    assert [finished(one) for one in [program(package) for _ in range(3)]] == [expected] * 3
    files = kept(package)
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert finished(program(package)) == expected


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(package):
    nowhere = package / "file"
    nowhere.write_text("")  # no folder can be made in it, not even by root
    (package / "mixup_jax" / "metrics" / "__pycache__").write_text("")
    assert float(finished(program(package, HOME=str(nowhere), XDG_CACHE_HOME=str(nowhere)))) > 0
    assert not nowhere.is_dir()


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("bits", [0x7FF8000000000001, 0xFFF8000000000FFF])
def test_nan_of_any_bits_is_refused(classes, bits):
    logits = np.random.default_rng(0).normal(size=(50, classes))
    logits[3, classes - 1] = np.array([bits], np.uint64).view(np.float64)[0]
    for metric in (metrics.nll, metrics.brier, metrics.confidence_and_correct, metrics.classwise_ece):
        with pytest.raises(InputError, match="NaN"):
            metric(logits, np.zeros(50, int))
