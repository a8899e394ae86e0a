"""Whole runs with a tiny network on eight virtual devices: train, stop, continue, evaluate."""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import sklearn.metrics
from small_networks import create_model

import mixup_jax.evaluate as evaluate_door
from mixup_jax import metrics
from mixup_jax.command import EXIT_ENVIRONMENT, run_command
from mixup_jax.config import Config
from mixup_jax.data.augment import standardise
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.sets import ExampleSet
from mixup_jax.devices.mesh import device_mesh
from mixup_jax.errors import InputError
from mixup_jax.evaluation import run as evaluation_run
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.prediction.predict import make_predict, plain
from mixup_jax.prediction.variants import ODIN_EPSILONS
from mixup_jax.runs.records import load_record
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.training import loop
from mixup_jax.training.trainer import prepare

pytestmark = pytest.mark.xdist_group("training")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config, data_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tiny"
    loop.train(tiny_config, folder, data_dir)
    return folder


@pytest.fixture(scope="module")
def evaluation(workdir: Path, data_dir: Path) -> dict[str, Any]:
    return evaluate_workdir(workdir, datasets=None, checkpoint="last", data_dir=data_dir, force=False)


def lines(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def last_state(workdir: Path, config: Config) -> Any:
    spec = dataset_spec("fashion_mnist")
    _, like = prepare(config, spec, 5)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert checkpoints.last is not None
        return jax.device_get(checkpoints.restore_state(checkpoints.last, like, device_mesh()))


@pytest.mark.parametrize("scale", [0.3, 5.0])
def test_refinement_is_the_lowest_nll_of_any_temperature_and_does_not_see_the_one_there_is(scale: float):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 500)
    logits = (generator.normal(0, 1, (500, 4)) + 1.5 * np.eye(4)[labels]).astype(np.float32)
    state, examples = SimpleNamespace(variables=None), SimpleNamespace(inputs=None, labels=labels)
    scores, _ = loop.validate(lambda *_: scale * logits, state, examples, "refinement")
    lowest = min(metrics.nll(logits / temperature, labels) for temperature in np.geomspace(0.2, 5, 500))
    assert scores["validation_refinement"] == pytest.approx(lowest, abs=1e-5)
    assert scores["validation_nll"] > lowest + 0.02
    assert "validation_refinement" not in loop.validate(lambda *_: logits, state, examples)[0]


def test_a_run_leaves_its_config_metrics_and_checkpoints(workdir: Path, tiny_config: Config):
    assert json.loads((workdir / "config.json").read_text())["experiment"] == "tiny/mixup"
    training = [line for line in lines(workdir) if "train_loss" in line]
    # Every second step, and the last of each epoch of five.
    assert [line["step"] for line in training] == [2, 4, 5, 6, 8, 10]
    assert [line["step"] for line in lines(workdir) if "validation_accuracy" in line] == [5, 10]
    assert all(0 < line["train_mixing"] < 0.5 for line in training)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert checkpoints.last == 10
        assert checkpoints.restore_facts(10)["config"]["seed"] == tiny_config.seed


def test_validation_records_of_the_chosen_epochs_are_kept(workdir: Path, evaluation: dict[str, Any]):
    assert sorted(path.name for path in (workdir / "epochs").iterdir()) == ["0.npz", "2.npz"]
    first, last = (load_record(workdir / "epochs" / name) for name in ("0.npz", "2.npz"))
    assert [(record.meta["epoch"], record.meta["step"]) for record in (first, last)] == [(0, 0), (2, 10)]
    validation = load_record(next((workdir / "predictions").glob("*-validation-10.npz")))
    np.testing.assert_array_equal(last.logits, validation.logits)
    np.testing.assert_array_equal(first.labels, validation.labels)
    assert not np.array_equal(first.logits, last.logits)


def test_a_sample_of_an_ood_set_is_the_same_for_every_run():
    images = np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1)
    data = ExampleSet(images, np.arange(10, dtype=np.int32), "here")
    some = evaluation_run._some(data, 4)
    assert len(some.labels) == 4
    np.testing.assert_array_equal(some.inputs, images[some.labels])
    np.testing.assert_array_equal(some.labels, evaluation_run._some(data, 4).labels)
    assert list(some.labels) != [0, 1, 2, 3]
    assert some.source == "here; 4 of 10 examples"
    assert evaluation_run._some(data, 0) is data
    assert evaluation_run._some(data, 10) is data


def test_a_finished_run_is_left_as_it_is(workdir: Path, tiny_config: Config, data_dir: Path):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name == "metrics.jsonl"}
    said: list[str] = []
    loop.train(tiny_config, workdir, data_dir, said.append)
    assert said == [f"{workdir}: already trained (10 steps)"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_interrupted_run_continues_to_the_same_bits(
    workdir: Path, tmp_path: Path, tiny_config: Config, data_dir: Path, train_and_interrupt: Callable[..., None]
):
    interrupted = tmp_path / "interrupted"
    train_and_interrupt(tiny_config, interrupted, data_dir)
    # The second epoch's steps were logged and will be taken again; a line was being written.
    assert lines(interrupted)[-1]["step"] == 10
    with (interrupted / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "epo')
    said: list[str] = []
    loop.train(tiny_config, interrupted, data_dir, said.append)
    assert "continuing after step 5 of 10" in said
    assert (interrupted / "metrics.jsonl").read_text() == (workdir / "metrics.jsonl").read_text()
    jax.tree.map(np.testing.assert_array_equal, last_state(interrupted, tiny_config), last_state(workdir, tiny_config))


def test_pmap_trains_to_the_same_losses(workdir: Path, tmp_path: Path, tiny_config: Config, data_dir: Path):
    loop.train(dataclasses.replace(tiny_config, parallel="pmap"), tmp_path / "pmap", data_dir)
    by_jit, by_pmap = lines(workdir), lines(tmp_path / "pmap")
    np.testing.assert_allclose(by_pmap[0]["train_loss"], by_jit[0]["train_loss"], rtol=1e-3)
    np.testing.assert_allclose([a["step"] for a in by_pmap], [a["step"] for a in by_jit])


def test_evaluation_agrees_with_scikit_learn_on_the_saved_logits(workdir: Path, evaluation: dict[str, Any]):
    def probabilities(name: str) -> tuple[np.ndarray, np.ndarray]:
        record = load_record(workdir / "predictions" / f"{name}-10.npz")
        shifted = np.exp(record.logits.astype(np.float64) - record.logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True), record.labels

    p, labels = probabilities("fashion_mnist-test")
    result = evaluation["results"]["fashion_mnist/test"]
    assert result["n"] == 130
    assert result["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, p.argmax(1)), abs=1e-12)
    assert result["nll"] == pytest.approx(sklearn.metrics.log_loss(labels, p, labels=range(10)), abs=1e-9)
    for name in ("mnist", "gaussian_noise"):
        p_out, _ = probabilities(f"{name}-test")
        is_out = np.r_[np.zeros(len(p)), np.ones(len(p_out))]
        score = -np.r_[p.max(1), p_out.max(1)]
        assert evaluation["ood"][name]["auroc"] == pytest.approx(sklearn.metrics.roc_auc_score(is_out, score), abs=1e-6)
    assert evaluation["ood"]["mnist"]["n_out"] == 70


def test_the_temperature_is_fitted_on_validation(evaluation: dict[str, Any]):
    assert evaluation["temperature_fitted_on"] == "fashion_mnist/validation"
    validation = evaluation["results"]["fashion_mnist/validation"]
    assert validation["n"] == 70
    assert validation["after_temperature"]["nll"] <= validation["nll"]


def test_records_say_where_they_come_from(workdir: Path, tiny_config: Config, evaluation: dict[str, Any]):
    meta = load_record(workdir / "predictions" / "fashion_mnist-test-10.npz").meta
    assert (meta["dataset"], meta["split"], meta["step"]) == ("fashion_mnist", "test", 10)
    assert (meta["device_count"], meta["seed"]) == (8, tiny_config.seed)
    assert meta["config"]["method"]["mixup_alpha"] == 0.2
    assert meta["versions"]["jax"] == jax.__version__


def test_an_evaluation_that_is_there_is_not_done_again(
    workdir: Path, data_dir: Path, evaluation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    def must_not_be_called(*_: Any, **__: Any) -> None:
        raise AssertionError("predicted again")

    monkeypatch.setattr(evaluation_run, "restore", must_not_be_called)
    again = evaluate_workdir(workdir, datasets=None, checkpoint="last", data_dir=data_dir, force=False)
    assert again == json.loads(json.dumps(evaluation))
    with pytest.raises(AssertionError, match="predicted again"):
        evaluate_workdir(workdir, datasets=("test", "mnist"), checkpoint="last", data_dir=data_dir, force=False)
    with pytest.raises(AssertionError, match="predicted again"):
        evaluate_workdir(workdir, datasets=None, checkpoint="last", data_dir=data_dir, force=True)


def test_logits_do_not_depend_on_the_devices_or_the_batch(workdir: Path, tiny_config: Config, data_dir: Path):
    spec = dataset_spec("fashion_mnist")
    model = create_model("resnet8", classes=10, width=2)
    images = np.random.default_rng(0).integers(0, 256, (53, 28, 28, 1), dtype=np.uint8)
    _, like = prepare(tiny_config, spec, 5)
    logits = []
    for devices, batch_size in ((1, 53), (8, 16)):
        mesh = device_mesh(jax.devices()[:devices])
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            variables = checkpoints.restore_variables(10, like.variables, mesh)
        forward = plain(model, partial(standardise, mean=spec.mean, std=spec.std))
        predict = make_predict(forward, mesh, batch_size=batch_size)
        logits.append(predict(variables, images))
    assert logits[0].shape == (53, 10)
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-4, atol=1e-5)


def test_a_folder_of_another_run_is_left_alone(workdir: Path, tiny_config: Config, data_dir: Path):
    other = dataclasses.replace(tiny_config, seed=9)
    with pytest.raises(InputError, match=r"belongs to a run of another config \(seed is 0 there and 9 here\)"):
        loop.train(other, workdir, data_dir)
    assert json.loads((workdir / "config.json").read_text())["seed"] == 0


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"[1]", "holds a list")]
)
def test_a_damaged_config_is_named(content: bytes, message: str, tmp_path: Path, tiny_config: Config, data_dir: Path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=f"config.json {message}"):
        loop.train(tiny_config, tmp_path, data_dir)


def test_a_folder_whose_checkpoints_are_a_file_is_refused(tmp_path: Path, tiny_config: Config, data_dir: Path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        loop.train(tiny_config, tmp_path, data_dir)


@pytest.fixture
def copy(workdir: Path, evaluation: dict[str, Any], tmp_path: Path) -> Path:
    shutil.copytree(workdir, tmp_path / "copy")
    return tmp_path / "copy"


def test_what_was_trained_decides_even_without_config_json(copy: Path, tiny_config: Config, data_dir: Path):
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"another config \(seed is 0 there and 9 here\)"):
        loop.train(dataclasses.replace(tiny_config, seed=9), copy, data_dir)
    assert not (copy / "config.json").exists()
    loop.train(tiny_config, copy, data_dir)
    assert json.loads((copy / "config.json").read_text())["seed"] == 0


def damage_config(folder: Path) -> None:
    stored = json.loads((folder / "evaluation.json").read_text())
    stored["config"]["method"]["mixup_alpha"] = 0.9
    (folder / "evaluation.json").write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "evaluation.json").write_text('{"step": 10, "ood": []}'),
        lambda folder: (folder / "evaluation.json").write_text("{"),
        lambda folder: next((folder / "predictions").iterdir()).unlink(),
        damage_config,
    ],
    ids=["incomplete", "malformed", "record missing", "another config"],
)
def test_an_evaluation_that_does_not_fit_is_made_anew(
    damage: Callable[[Path], None], copy: Path, data_dir: Path, evaluation: dict[str, Any]
):
    damage(copy)
    again = evaluate_workdir(copy, datasets=None, checkpoint="last", data_dir=data_dir, force=False)
    assert again["results"] == evaluation["results"]
    assert len(list((copy / "predictions").iterdir())) == 4


def test_a_full_disk_during_evaluation_leaves_the_evaluation_before_it(
    copy: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = (copy / "evaluation.json").read_bytes()
    write, written = Path.write_bytes, list[Path]()

    def until_it_is_full(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) < 3:
            return write(path, content)
        write(path, content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", until_it_is_full)
        arguments = [f"--workdir={copy}", f"--data_dir={data_dir}", "--force"]
        assert run_command(evaluate_door.main, arguments) == EXIT_ENVIRONMENT
    assert capsys.readouterr().err.startswith("error: the disk is full")
    assert (copy / "evaluation.json").read_bytes() == before
    assert len(list((copy / "predictions").iterdir())) == 4
    assert all(load_record(path).meta["split"] for path in (copy / "predictions").iterdir())


def test_the_name_of_the_checkpoint_is_the_one_asked_for(copy: Path, data_dir: Path):
    for asked, stored in (("010", "10"), ("best", "best"), ("last", "last")):
        again = evaluate_workdir(copy, datasets=None, checkpoint=asked, data_dir=data_dir, force=False)
        assert again["checkpoint"] == stored
        assert json.loads((copy / "evaluation.json").read_text())["checkpoint"] == stored


def test_odin_joins_the_scores_and_its_records_are_kept(copy: Path, data_dir: Path, evaluation: dict[str, Any]):
    with_odin = evaluate_workdir(copy, datasets=None, checkpoint="last", data_dir=data_dir, force=False, odin=True)
    assert with_odin["odin"]["epsilon"] in ODIN_EPSILONS
    assert with_odin["results"] == evaluation["results"]
    records = [load_record(copy / "predictions" / f"{name}-test-odin-10.npz") for name in ("fashion_mnist", "mnist")]
    assert records[0].meta["odin"]["epsilon"] == with_odin["odin"]["epsilon"]
    scores = with_odin["ood"]["mnist"]["scores"]
    assert scores["odin"]["auroc"] == metrics.auroc(*(metrics.msp_score(record.logits) for record in records))
    assert set(scores) - set(evaluation["ood"]["mnist"]["scores"]) == {"odin"}
    said: list[str] = []
    arguments: dict[str, Any] = {"datasets": None, "checkpoint": "last", "data_dir": data_dir, "force": False}
    assert evaluate_workdir(copy, **arguments, odin=True, report=said.append)["odin"] == with_odin["odin"]
    assert len(said) == 1


def test_the_time_of_training_is_kept(evaluation: dict[str, Any]):
    assert 0 < evaluation["training_seconds"] < 600


def test_a_folder_that_cannot_be_written_is_found_out_before_predicting(copy: Path, data_dir: Path):
    shutil.rmtree(copy / "predictions")
    (copy / "predictions").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        evaluate_workdir(copy, datasets=None, checkpoint="last", data_dir=data_dir, force=True)


@pytest.mark.parametrize("item", ["facts", "variables"])
def test_a_damaged_checkpoint_is_named(item: str, copy: Path, data_dir: Path):
    shutil.rmtree(copy / "checkpoints" / "10" / item)
    with pytest.raises(InputError, match=r"checkpoint 10 in .* cannot be restored"):
        evaluate_workdir(copy, datasets=None, checkpoint="10", data_dir=data_dir, force=True)


def test_what_does_not_change_the_result_may_change(workdir: Path, tiny_config: Config, data_dir: Path):
    loop.train(dataclasses.replace(tiny_config, notes="another note", log_every_steps=3), workdir, data_dir)
    loop.train(tiny_config, workdir, data_dir)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (None, {"batch_size": 336}, "batch_size is 336, larger than the 330 training examples; expected at most 330"),
        (None, {"batch_size": 60}, "batch_size is 60, which 8 devices cannot share equally"),
        ("data", {"name": "fashion_mnits"}, "unknown data set 'fashion_mnits' .did you mean 'fashion_mnist'"),
        ("data", {"train_examples": 1000}, "data.train_examples is 1000"),
        ("data", {"validation_examples": 400}, "data.validation_examples is 400"),
        ("model", {"name": "resnet9"}, "unknown model 'resnet9'"),
        ("evaluation", {"ood": ("minst",)}, "unknown out-of-distribution set 'minst'"),
        ("evaluation", {"ood": ("fashion_mnist",)}, "'fashion_mnist' is the data set that is in-distribution here"),
    ],
)
def test_impossible_runs_are_refused_before_anything_is_written(
    part: str | None, changes: dict[str, Any], message: str, tiny_config: Config, data_dir: Path, tmp_path: Path
):
    if part is not None:
        changes = {part: dataclasses.replace(getattr(tiny_config, part), **changes)}
    config = dataclasses.replace(
        tiny_config, **{"method": dataclasses.replace(tiny_config.method, group_size=2), **changes}
    )
    with pytest.raises(InputError, match=message):
        loop.train(config, tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


def test_missing_data_says_what_to_run(tiny_config: Config, tmp_path: Path):
    with pytest.raises(InputError, match=r"python -m mixup_jax.data fashion_mnist"):
        loop.train(tiny_config, tmp_path / "run", tmp_path / "empty")


def test_a_folder_without_a_checkpoint_cannot_be_evaluated(tmp_path: Path, data_dir: Path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        evaluate_workdir(tmp_path, datasets=None, checkpoint="last", data_dir=data_dir, force=False)


@pytest.mark.parametrize(
    ("datasets", "checkpoint", "message"),
    [
        (("test", "mnits"), "last", "unknown out-of-distribution set 'mnits'"),
        (None, "7", "checkpoint '7' is not in"),
        (None, "newest", "checkpoint 'newest' is not in"),
    ],
)
def test_unknown_sets_and_checkpoints_are_named(
    datasets: tuple[str, ...] | None, checkpoint: str, message: str, workdir: Path, data_dir: Path
):
    with pytest.raises(InputError, match=message):
        evaluate_workdir(workdir, datasets=datasets, checkpoint=checkpoint, data_dir=data_dir, force=False)
