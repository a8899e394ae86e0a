"""The results that the project keeps, read by others."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import mixup_jax
from mixup_jax.errors import InputError
from mixup_jax.runs.records import Predictions, save_predictions
from mixup_jax.runs.workdir import record_path

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "results.zip"
    with zipfile.ZipFile(path, "w") as file:
        for each in sorted((ROOT / "docs" / "results" / "mr").rglob("*-0/**/*.*")):
            file.write(each, each.relative_to(ROOT))
    return path


def test_kept_results_are_the_records_that_their_numbers_were_computed_from():
    runs = mixup_jax.load_results("mr")
    assert list(runs) == sorted(runs)
    assert len(runs) == 25
    run = runs["erm-0"]
    record = run.record("mr/test")
    assert run.config["seed"] == 0
    assert record.name == "mr/test"
    found = mixup_jax.evaluate(record)["results"]["mr/test"]
    assert found["ece_15"] == run.evaluation["results"]["mr/test"]["ece_15"]


def test_an_archive_holds_the_same_results_as_the_folder(archive):
    here, there = mixup_jax.load_results("mr"), mixup_jax.load_results("mr", archive)
    assert list(there) == [name for name in here if name.endswith("-0")]
    for name, run in there.items():
        assert run.names == here[name].names
        assert run.config == here[name].config
        for record in run.names:
            np.testing.assert_array_equal(run.record(record).logits, here[name].record(record).logits)


def test_a_record_is_that_of_the_last_step_unless_its_step_is_named(tmp_path):
    run = tmp_path / "own" / "run"
    for step in (90, 100):
        record = Predictions(np.eye(3), np.arange(3), {"step": step})
        path = record_path(run, "mr/test", step)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_predictions(path, record)
    (run / "config.json").write_text("{}")
    kept = mixup_jax.load_results("own", tmp_path)["run"]
    assert kept.evaluation is None
    assert kept.record("mr/test").meta["step"] == 100
    assert kept.record("mr-test-90").meta["step"] == 90


def test_results_that_are_not_there_are_named(tmp_path, archive):
    with pytest.raises(InputError, match=r"'none' are not in .*; expected one of .*quickstart"):
        mixup_jax.load_results("none")
    with pytest.raises(InputError, match=r"neither a folder nor a \.zip"):
        mixup_jax.load_results("mr", tmp_path / "absent.zip")
    with pytest.raises(InputError, match="no record 'mr/train'; expected one of mr-test-"):
        mixup_jax.load_results("mr", archive)["erm-0"].record("mr/train")


def test_what_is_no_whole_archive_or_folder_of_results_is_refused(tmp_path):
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("notes.txt", "nothing")
    with pytest.raises(InputError, match="expected docs/results of a checkout, or the archive"):
        mixup_jax.load_results("mr", other)
    (tmp_path / "own" / "run").mkdir(parents=True)
    (tmp_path / "own" / "run" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read .*; expected the whole file of a run"):
        mixup_jax.load_results("own", tmp_path)
