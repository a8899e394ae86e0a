"""How benchmarks/accelerator.py keeps what it found, and how it compares; `--dry_run` in .ci/run does the rest."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import accelerator


def found(folder: Path) -> dict:
    return json.loads((folder / "accelerator.json").read_text())


def test_every_part_is_written_when_it_is_done_and_a_failure_ends_nothing(tmp_path: Path):
    session = accelerator.Session(accelerator.TINY, tmp_path, tmp_path, minutes=1)
    assert session.part("fast", "one", 0, lambda: {"images/s": 3}) == {"images/s": 3}
    assert found(tmp_path)["fast"] == {"one": {"images/s": 3}}
    assert session.part("fast", "two", 0, lambda: 1 / 0) is None
    assert found(tmp_path)["failed"] == {"fast: two": "ZeroDivisionError: division by zero"}
    session.part("fast", "three", 0, lambda: 4)
    assert found(tmp_path)["fast"] == {"one": {"images/s": 3}, "three": 4}


def test_what_there_is_no_time_for_is_left_out_and_named(tmp_path: Path):
    session = accelerator.Session(accelerator.TINY, tmp_path, tmp_path, minutes=1)
    session.give(0.5)
    assert 29 < session.left <= 30
    assert session.part("paper", "erm-0", 31, lambda: pytest.fail("there was no time")) is None
    assert found(tmp_path)["left_out"] == ["paper: erm-0"]


def test_numbers_are_compared_by_the_largest_and_pairs_to_the_bit(tmp_path: Path):
    expected = {"step['a']": np.array([1.0, -4.0]), "lambda/0.2": np.array([0.5, 0.25])}
    given = {"step['a']": np.array([1.0, -4.002]), "lambda/0.2": np.array([0.5, np.nextafter(0.25, 1)])}
    for name, arrays in (("cpu", expected), ("device", given)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "mixup.npz", **arrays)
    result = accelerator.against(tmp_path / "cpu", tmp_path / "device", ["mixup"])
    assert result["mixup"]["step"] == pytest.approx(0.002 / 4)
    assert result["mixup"]["within bounds"]
    assert result["lambda/0.2 equal to the bit"] is False
    np.savez(tmp_path / "device" / "mixup.npz", **(given | {"step['a']": np.array([1.0, -4.1])}))
    assert not accelerator.against(tmp_path / "cpu", tmp_path / "device", ["mixup"])["mixup"]["within bounds"]
