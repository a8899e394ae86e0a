"""A sample of the damage that tests/fuzz_readers.py does, and every case that it once found."""

import json
import os
import time
import zipfile
from pathlib import Path

import fuzz_readers
import numpy as np
import pytest

from mixup_jax.errors import InputError
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.records import Predictions, load_record, save_predictions


@pytest.mark.parametrize(
    ("kind", "cases"),
    [
        *(("npz", 150), ("npy", 150), ("csv", 150), ("csv.gz", 100), ("parquet", 100), ("arrow", 100), ("pt", 150)),
        *(("json", 150), ("run", 40)),
    ],
)
def test_damaged_files_are_refused_or_read(kind, cases):
    assert [wrong for number in range(cases) if (wrong := fuzz_readers.failure(kind, 7, number))] == []


KEPT = sorted((Path(__file__).parent / "fuzz_cases").iterdir())


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_what_was_found_once_stays_right(folder):
    kind = folder.name.partition("-")[0]
    assert (
        fuzz_readers.failure_of(lambda: fuzz_readers.read(kind, folder), "" if kind == "json" else str(folder)) is None
    )


def test_crashes_and_hangs_and_wrong_refusals_are_found(monkeypatch):
    def refused(message):
        def action():
            raise InputError(message)

        return fuzz_readers.failure_of(action, "p.npz")

    assert refused("p.npz is damaged; expected another") is None
    assert refused("is damaged").startswith("does not name p.npz")
    assert refused("p.npz" + "x" * 3000).startswith("no short line")
    assert "ZeroDivisionError" in fuzz_readers.failure_of(lambda: 1 // 0, "")
    monkeypatch.setattr(fuzz_readers, "failure", lambda kind, seed, number: os._exit(9) if number == 1 else None)
    assert fuzz_readers.fuzz("npz", 0, 3) == [(1, "the process died with code 9")]


def refusal(path, **more):
    with pytest.raises(InputError) as caught:
        load_predictions(path, **more)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_numbers_beyond_unicode_are_no_text(tmp_path):
    # numpy makes a str of them whose characters Python cannot hold: a SystemError when it is looked at.
    marks = np.array([ord(mark) for mark in '{"dataset": "x"}'], np.uint32)
    marks[13] = 0x200000
    meta = np.frombuffer(marks.tobytes(), f"U{len(marks)}").reshape(())
    np.savez(tmp_path / "p.npz", logits=np.eye(2), labels=[0, 1], meta=meta)
    assert "meta holds the code point 0x200000, which is not a character" in refusal(tmp_path / "p.npz")
    swapped = np.array('{"dataset": "x"}').astype(">U16")
    np.savez(tmp_path / "p.npz", logits=np.eye(2), labels=[0, 1], meta=swapped)
    assert load_record(tmp_path / "p.npz").name == "x"


@pytest.mark.filterwarnings("error")
def test_a_header_that_may_be_of_python_2_is_no_warning(tmp_path):
    np.save(tmp_path / "p.npy", np.zeros((6, 4), np.float32))
    content = (tmp_path / "p.npy").read_bytes()
    (tmp_path / "p.npy").write_bytes(content.replace(b"(6, 4), } ", b"(6L, 4), }", 1))
    assert len(load_predictions(tmp_path / "p.npy").labels) == 6


def test_marks_in_what_a_library_says_are_escaped(tmp_path):
    assert str(InputError("a\nb\x1b[2J\u202e")) == "a\\nb\\x1b[2J\\u202e"


def test_only_the_compressions_of_numpy_are_unfolded(tmp_path):
    save_predictions(tmp_path / "p.npz", record_of(np.eye(2)))
    with zipfile.ZipFile(tmp_path / "p.npz") as old, zipfile.ZipFile(tmp_path / "q.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_LZMA)
    assert "compression method 14 is not one that numpy writes" in refusal(tmp_path / "q.npz")


def record_of(logits):
    return Predictions(logits, np.arange(len(logits)), {})


def test_many_members_with_odd_names_are_listed_in_one_short_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        for number in range(2000):
            archive.writestr(f"{number}\x1b[2J\n.npy", b"x")
    assert len(refusal(tmp_path / "p.npz")) < 500


def test_a_name_in_the_origins_must_be_printable(tmp_path):
    for meta in ({"dataset": "\x1b]0;x\x07"}, {"split": "x" * 300}, {"dataset": 3}, {"dataset": ""}):
        np.savez(tmp_path / "p.npz", logits=np.eye(2), labels=[0, 1], meta=json.dumps(meta))
        assert "expected a name of 1 to 200 printable characters" in refusal(tmp_path / "p.npz")


def test_the_same_record_is_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    record = record_of(np.eye(3))
    save_predictions(tmp_path / "now.npz", record)
    monkeypatch.setattr(time, "time", lambda: 0.0)  # 1970: before the first date that a ZIP can hold
    save_predictions(tmp_path / "then.npz", record)
    assert (tmp_path / "now.npz").read_bytes() == (tmp_path / "then.npz").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "then.npz")["logits"], np.eye(3))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_versions_that_a_file_can_make_run_code_are_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(pytest.importorskip("pyarrow"), "__version__", "14.0.0")
    (tmp_path / f"p.{suffix}").write_bytes(b"x")
    assert "in which such a file could run code; expected at least" in refusal(tmp_path / f"p.{suffix}")
