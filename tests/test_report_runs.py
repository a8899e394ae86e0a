import json
import shutil

import numpy as np
import pytest
from report_runs import STEP, make_run, reconfigure, rewrite

from mixup_jax.errors import InputError
from mixup_jax.report.__main__ import main
from mixup_jax.report.groups import make_groups, summarise
from mixup_jax.report.quantities import Quantity, interval, sections, value
from mixup_jax.report.runs import load_run, load_runs
from mixup_jax.runs.records import load_record, save_predictions


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("original") / "erm-0", n=200)


@pytest.fixture
def run_folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "erm-0")


def failure(folders, output, capsys):
    """The message of a report that must fail before anything is written."""
    with pytest.raises(InputError) as caught:
        main([*map(str, folders), f"--output={output}"])
    assert not output.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_is_read_with_its_test_and_ood_records(run_folder):
    run = load_run(run_folder)
    assert run.test_name == "fashion_mnist/test"
    assert len(run.test.trained) == 200
    assert list(run.ood) == ["mnist", "gaussian_noise"]
    assert run.config.data.name == "fashion_mnist"
    assert run.config.optimizer.schedule == "cosine"


def test_quantities_are_the_numbers_of_evaluation_json(run_folder):
    run = load_run(run_folder)
    written = json.loads((run_folder / "evaluation.json").read_text())["results"]["fashion_mnist/test"]
    by_key = {quantity.key: quantity for section in sections(()) for quantity in section.quantities}
    for key in ("accuracy", "nll", "ece_15", "aurc", "tace_15"):
        assert value(run, by_key[key]) == written[key]
    assert list(interval(run, by_key["ece_15"])) == written["intervals"]["ece_15"]
    after = by_key["after_temperature/ece_15"]
    assert value(run, after) == written["after_temperature"]["ece_15"]
    assert list(interval(run, after)) == written["after_temperature"]["intervals"]["ece_15"]


def test_missing_folder_and_missing_evaluation_say_what_to_do(run_folder, tmp_path, capsys):
    assert "does not exist" in failure([tmp_path / "none"], tmp_path / "out", capsys)
    (run_folder / "evaluation.json").unlink()
    message = failure([run_folder], tmp_path / "out", capsys)
    assert f"python -m mixup_jax.evaluate --workdir={run_folder}" in message


@pytest.mark.parametrize("name", ["config.json", "evaluation.json"])
@pytest.mark.parametrize("content", ["{", "[1]"])
def test_malformed_json_is_named(run_folder, tmp_path, capsys, name, content):
    (run_folder / name).write_text(content)
    assert str(run_folder / name) in failure([run_folder], tmp_path / "out", capsys)


def test_another_schema_is_refused(run_folder, tmp_path, capsys):
    rewrite(run_folder / "evaluation.json", lambda evaluation: evaluation.update(schema=2))
    assert "schema is 2; expected 1" in failure([run_folder], tmp_path / "out", capsys)


@pytest.mark.parametrize("bad", [None, "0.9", True, float("nan")])
def test_a_result_that_is_no_number_is_named(run_folder, tmp_path, capsys, bad):
    def spoil(evaluation):
        evaluation["results"]["fashion_mnist/test"]["accuracy"] = bad

    rewrite(run_folder / "evaluation.json", spoil)
    assert "accuracy" in failure([run_folder], tmp_path / "out", capsys)


def test_the_same_folder_twice_is_refused_under_any_name(run_folder, tmp_path, capsys):
    alias = run_folder.parent / "." / ".." / run_folder.parent.name / run_folder.name
    assert "given twice" in failure([run_folder, alias], tmp_path / "out", capsys)


def test_same_config_and_seed_in_two_folders_are_not_two_seeds(run_folder, tmp_path, capsys):
    copy = shutil.copytree(run_folder, tmp_path / "copy")
    assert "same config and seed" in failure([run_folder, copy], tmp_path / "out", capsys)


def test_an_output_that_is_a_file_is_refused(run_folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        main([str(run_folder), f"--output={tmp_path / 'out'}"])
    assert (tmp_path / "out").read_text() == "mine"


def test_evaluation_that_disagrees_with_its_record_is_refused(run_folder, tmp_path, capsys):
    path = run_folder / "predictions" / f"fashion_mnist-test-{STEP}.npz"
    record = load_record(path)
    labels = record.labels.copy()
    labels[0] = (labels[0] + 1) % 10
    save_predictions(path, type(record)(record.logits, labels, record.meta))
    message = failure([run_folder], tmp_path / "out", capsys)
    assert "results['fashion_mnist/test'].accuracy is 0." in message
    assert f"python -m mixup_jax.evaluate --workdir={run_folder} --force" in message


def test_ood_confidence_that_disagrees_with_its_record_is_refused(run_folder, tmp_path, capsys):
    path = run_folder / "predictions" / f"mnist-test-{STEP}.npz"
    record = load_record(path)
    save_predictions(path, type(record)(record.logits * np.float32(1.01), record.labels, record.meta))
    assert "ood.mnist.mean_confidence is 0." in failure([run_folder], tmp_path / "out", capsys)


def test_a_missing_record_is_named(run_folder, tmp_path, capsys):
    (run_folder / "predictions" / f"mnist-test-{STEP}.npz").unlink()
    message = failure([run_folder], tmp_path / "out", capsys)
    assert "mnist" in message
    assert "mixup_jax.evaluate" in message


def test_data_set_names_cannot_lead_out_of_the_predictions_folder(run_folder, tmp_path, capsys):
    def spoil(evaluation):
        evaluation["ood"]["../../secret"] = evaluation["ood"]["mnist"]

    rewrite(run_folder / "evaluation.json", spoil)
    assert "cannot be the name of a data set" in failure([run_folder], tmp_path / "out", capsys)


def test_half_a_last_line_of_progress_is_forgiven_but_not_one_in_between(run_folder, tmp_path, capsys):
    path = run_folder / "metrics.jsonl"
    whole = len(load_run(run_folder).progress)
    path.write_text(path.read_text() + '{"step": 12')
    assert len(load_run(run_folder).progress) == whole
    path.write_text('{"step": 12\n{"step": 13}\n')
    assert "line 1" in failure([run_folder], tmp_path / "out", capsys)


def test_runs_that_differ_in_their_seed_alone_form_a_group(original, tmp_path):
    folders = [original]
    for seed in (10, 2):
        folder = shutil.copytree(original, tmp_path / f"seed-{seed}")
        reconfigure(folder, lambda config, seed=seed: config.update(seed=seed))
        folders.append(folder)
    other = shutil.copytree(original, tmp_path / "longer")
    reconfigure(other, lambda config: config.update(epochs=31))
    groups = make_groups(load_runs([*folders, other]))
    assert [group.seeds for group in groups] == [(0, 2, 10), (0,)]
    assert [group.name for group in groups] == ["quickstart/erm (epochs 30)", "quickstart/erm (epochs 31)"]
    assert groups[1].summary(Quantity("accuracy", "")).std is None


def test_last_and_best_checkpoints_are_not_averaged(original, tmp_path):
    best = shutil.copytree(original, tmp_path / "best")
    reconfigure(best, lambda config: config.update(seed=1))
    rewrite(best / "evaluation.json", lambda evaluation: evaluation.update(checkpoint="best"))
    groups = make_groups(load_runs([original, best]))
    assert len(groups) == 2
    assert len({group.name for group in groups}) == 2


def test_summary_is_mean_and_sample_standard_deviation():
    rng = np.random.default_rng(0)
    values = list(rng.random(5))
    summary = summarise(values)
    assert summary.mean == pytest.approx(np.mean(values), abs=1e-15)
    assert summary.std == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert summary.n_seeds == 5
    assert summarise([0.25]).std is None


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"mixup_alpha": 0.0}, "baseline"),
        ({}, "baseline"),
        ({"mixup_alpha": 0.2}, "mixup"),
        ({"mixup_alpha": 0.2, "mix_labels": False}, "other"),
        ({"mixup_alpha": 0.2, "label_smoothing": 0.1}, "other"),
        ({"label_smoothing": 0.1}, "other"),
        ({"entropy_weight": 0.1}, "other"),
        ({"arc_weight": 4.0}, "other"),
        ({"mixup_alpha": 1.0, "cut": True}, "other"),
        ({"mixup_alpha": 2.0, "layer": "random"}, "other"),
        ({"mixup_alpha": 20.0, "clean_weight": 0.5}, "other"),
        ("erm", "other"),
    ],
)
def test_kind_of_a_run_follows_from_its_method(original, tmp_path, method, expected):
    folder = shutil.copytree(original, tmp_path / "run")
    reconfigure(folder, lambda config: config.update(method=method))
    assert load_run(folder).kind == expected
