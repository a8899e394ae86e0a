import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixup_jax.errors import InputError
from mixup_jax.runs.files import check_values, unique, write_atomically, write_json
from mixup_jax.runs.records import Predictions, load_record, logits_of_probabilities, save_predictions

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=20)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(1, 6), st.integers(2, 4)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    st.dictionaries(st.text(), json_values, max_size=4),
)
def test_a_saved_record_is_read_back_exactly(tmp_path_factory, logits, meta):
    path = tmp_path_factory.mktemp("records") / "deep" / "record.npz"
    labels = np.arange(len(logits)) % (logits.shape[1] + 1) - 1
    save_predictions(path, Predictions(logits, labels, meta))
    loaded = load_record(path)
    np.testing.assert_array_equal(loaded.logits, logits)
    assert loaded.logits.dtype == logits.dtype
    np.testing.assert_array_equal(loaded.labels, labels)
    assert loaded.labels.dtype == np.int32
    assert loaded.meta == meta
    assert [entry.name for entry in path.parent.iterdir()] == ["record.npz"]


def test_logits_and_labels_suffice(tmp_path):
    np.savez(tmp_path / "p.npz", logits=np.zeros((2, 3)), labels=np.array([0, 2], np.uint8))
    loaded = load_record(tmp_path / "p.npz")
    assert (loaded.meta, loaded.name, loaded.labels.tolist()) == ({}, "", [0, 2])


def test_half_precision_is_widened_without_change():
    logits = np.array([[1.5, -2.25]], np.float16)
    widened = Predictions(logits, [0]).logits
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, logits)


@pytest.mark.parametrize(
    ("meta", "name"),
    [({}, ""), ({"dataset": "a", "split": "test"}, "a/test"), ({"dataset": "a"}, "a"), ({"split": "b"}, "b")],
)
def test_name(meta, name):
    assert Predictions(np.zeros((1, 2)), [0], meta).name == name


GOOD = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(3), [0], r"logits have shape \[3\]"),
        (np.zeros((0, 3)), np.zeros(0, int), r"logits have shape \[0, 3\]"),
        (np.zeros((2, 1)), [0, 0], r"logits have shape \[2, 1\]"),
        (np.zeros((2, 3), int), [0, 0], "logits have dtype int64"),
        (np.array([[0.0, np.nan], [np.inf, 0.0]]), [0, 0], r"2 NaN or \+inf values, the first nan at \[0, 1\]"),
        (np.array([[0.0, 1.0], [-np.inf, -np.inf]]), [0, 0], "row 1 of logits is -inf"),
        (GOOD, [0], r"labels have shape \[1\]; expected \[2\]"),
        (GOOD, [[0], [1]], r"labels have shape \[2, 1\]"),
        (GOOD, [0.0, 1.0], "labels have dtype float64"),
        (GOOD, [0, 3], "label 3 of example 1"),
        (GOOD, [-2, 0], "label -2 of example 0"),
        (GOOD, np.array([0, 2**64 - 1], np.uint64), "label 18446744073709551615 of example 1"),
    ],
)
def test_malformed_arrays_are_refused_in_memory_and_from_a_file(tmp_path, logits, labels, message):
    with pytest.raises(InputError, match=message):
        Predictions(logits, labels)
    np.savez(tmp_path / "bad.npz", logits=logits, labels=labels)
    with pytest.raises(InputError, match=rf"bad\.npz: .*{message}"):
        load_record(tmp_path / "bad.npz")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def npz(**entries):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **entries)
    return buffer.getvalue()


def with_flipped_data(content):
    # Into the compressed bytes of the first entry, past its local header.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
    start = first.header_offset + 30 + len(first.filename) + 20
    return content[:start] + b"\xff" * 20 + content[start + 20 :]


RANDOM = np.random.default_rng(0).normal(size=(50, 3))
UNREADABLE = {
    "text": b"logits, labels\n0, 1\n",
    "empty": b"",
    "truncated": npz(logits=RANDOM, labels=np.zeros(50, int))[:300],
    "flipped": with_flipped_data(npz(logits=RANDOM, labels=np.zeros(50, int))),
    "pickle": npz(logits=GOOD, labels=np.array([Bomb(), Bomb()], object)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_is_no_plain_npz_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / f"{kind}.npz"
    path.write_bytes(UNREADABLE[kind])
    with pytest.raises(InputError, match=rf"{kind}\.npz cannot be read") as caught:
        load_record(path)
    assert "\n" not in str(caught.value)


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "array.npy", GOOD)
    with pytest.raises(InputError, match="it holds a single array"):
        load_record(tmp_path / "array.npy")


def test_missing_files_and_entries_are_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.npz does not exist"):
        load_record(tmp_path / "absent.npz")
    np.savez(tmp_path / "p.npz", predictions=GOOD, labels=[0, 1])
    with pytest.raises(InputError, match=r"lacks logits \(it holds 'labels', 'predictions'\)"):
        load_record(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("[1]", "meta is a list"),
        ("{oops", "meta is not JSON"),
        ('{"lr": NaN}', r"meta is not JSON \(NaN is not a JSON number\)"),
    ],
)
def test_malformed_meta_is_refused(tmp_path, meta, message):
    np.savez(tmp_path / "p.npz", logits=GOOD, labels=[0, 1], meta=np.array(meta))
    with pytest.raises(InputError, match=rf"p\.npz: {message}"):
        load_record(tmp_path / "p.npz")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    for value in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, value)
    with pytest.raises(ValueError, match="JSON"):
        save_predictions(path, Predictions(GOOD, [0, 1], {"lr": float("inf")}))
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_json(tmp_path / "folder", {"a": 2})
    (tmp_path / "folder").rmdir()
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ('{"step": 1e999}', "1e999 does not fit into float64"),
        ("[" * 100_000, "meta is not JSON"),
        ('{"dataset": "\\ud800"}', "surrogates not allowed"),
    ],
    ids=["infinite", "deep", "half a surrogate pair"],
)
def test_meta_that_could_not_be_written_again_is_refused(tmp_path, meta, message):
    np.savez(tmp_path / "p.npz", logits=np.eye(3), labels=np.arange(3), meta=np.array(meta))
    with pytest.raises(InputError, match=message):
        load_record(tmp_path / "p.npz")


@pytest.mark.parametrize("value", [1e101, -1e101])
def test_logits_beyond_all_reason_are_refused(value):
    with pytest.raises(InputError, match=r"row 1 of logits has the largest value -?1e\+101; expected a magnitude"):
        Predictions(np.array([[0.0, 1.0], [value, value]]), np.array([0, 1]))


def test_rounded_probabilities_may_miss_a_sum_of_one_by_what_rounding_does():
    logits = np.random.default_rng(0).normal(0, 2, (50, 1000))
    exact = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for dtype in (np.float32, np.float64):
        found = logits_of_probabilities(exact.round(3).astype(dtype))
        np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-12)
    assert np.abs(exact.round(3).sum(axis=1) - 1).max() > 0.01
    truncated = np.floor(exact * 1e4) / 1e4
    assert np.isfinite(logits_of_probabilities(truncated)).any()
    assert np.abs(truncated.sum(axis=1) - 1).max() > 0.01
    for pair in ([0.33, 0.66], [0.34, 0.67]):  # sums of .99 and 1.01
        assert np.isfinite(logits_of_probabilities(np.array([pair]))).all()
    with pytest.raises(InputError, match=r"sums to 0\.98"):
        logits_of_probabilities(np.array([[0.32, 0.66]]))
    with pytest.raises(InputError, match=r"sums to 0\.9"):
        logits_of_probabilities(exact * 0.95)


def test_the_check_of_json_takes_no_more_memory_than_a_few_times_the_text():
    value = {"a" * 20_000: [0] * 5_000}
    tracemalloc.start()
    try:
        check_values(value)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(InputError, match=r"^b\[1\]\.c is nan; expected a finite number"):
        check_values({"b": [1, {"c": float("nan")}]})
    with pytest.raises(ValueError, match="the key 'x' stands twice"):
        unique([("y", 0), ("x", 1), ("z", 2), ("x", 3)])
