"""Evaluations that change how a trained network predicts: Monte Carlo dropout, clean statistics, ensembles."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.special
from flax import linen as nn
from report_runs import STEP, make_run, rewrite
from small_networks import Convolution, Words

from mixup_jax.command import run_command
from mixup_jax.config import Config
from mixup_jax.devices.mesh import device_mesh
from mixup_jax.errors import InputError
from mixup_jax.evaluate import main
from mixup_jax.evaluation.ensemble import evaluate_ensemble
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.models.layers import BATCH_NORM_MOMENTUM
from mixup_jax.prediction.predict import make_predict, plain
from mixup_jax.prediction.variants import Derivation, clean_statistics
from mixup_jax.prediction.variants import mc_dropout as mc_dropout_by
from mixup_jax.report.groups import make_groups
from mixup_jax.report.runs import load_run
from mixup_jax.runs.records import load_record
from mixup_jax.training import loop

pytestmark = pytest.mark.xdist_group("training")

IMAGES = np.random.default_rng(0).normal(size=(21, 6, 6, 1)).astype(np.float32)
KEY = jax.random.key(1)
VARIABLES = Convolution().init(KEY, IMAGES, train=False)


def same(inputs: jax.Array) -> jax.Array:
    return inputs


def mc_dropout(rate: float, *, passes: int, devices: int = 1, batch_size: int = 21) -> np.ndarray:
    mesh = device_mesh(jax.devices()[:devices])
    forward = mc_dropout_by(Convolution(rate=rate), same, passes=passes, key=KEY)
    return make_predict(forward, mesh, batch_size=batch_size)(VARIABLES, IMAGES)


def test_mc_dropout_at_rate_zero_is_plain_prediction():
    found = make_predict(plain(Convolution(), same), device_mesh(), batch_size=8)(VARIABLES, IMAGES)
    np.testing.assert_allclose(mc_dropout(0, passes=3), scipy.special.log_softmax(found, axis=1), atol=1e-5)


def test_mc_dropout_is_the_mean_of_its_passes_however_they_are_batched():
    model = Convolution(rate=0.5)
    passes = []
    for number in range(3):
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(KEY, number)))(np.arange(21))
        passes.append(scipy.special.softmax(model.apply(VARIABLES, IMAGES, train=False, dropout_keys=keys), axis=1))
    assert np.abs(passes[0] - passes[1]).max() > 1e-3
    for devices, batch_size in ((1, 21), (8, 8)):
        found = mc_dropout(0.5, passes=3, devices=devices, batch_size=batch_size)
        np.testing.assert_allclose(np.exp(found), np.mean(passes, axis=0), atol=1e-5)


@pytest.mark.parametrize("batch_size", [21, 7])
def test_clean_statistics_are_the_mean_and_variance_over_all_examples(batch_size: int):
    # One convolution before the only normalisation: what it sees does not depend on how examples are batched.
    found = clean_statistics(Convolution(), VARIABLES, same, IMAGES, batch_size=batch_size)["BatchNorm_0"]
    _, state = Convolution().apply(VARIABLES, IMAGES, train=False, capture_intermediates=True)
    seen = np.asarray(state["intermediates"]["Conv_0"]["__call__"][0], np.float64)
    np.testing.assert_allclose(found["mean"], seen.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], seen.var(axis=(0, 1, 2)), rtol=1e-4)


class NormalisedInput(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.BatchNorm(use_running_average=not train, momentum=BATCH_NORM_MOMENTUM)(x).mean(axis=(1, 2))


def test_the_variance_of_constant_activations_is_not_negative():
    images = np.full((21, 2, 2, 200), np.linspace(0.1, 50, 200), np.float32)
    variables = {"params": {}, **NormalisedInput().init(KEY, images)}
    found = clean_statistics(NormalisedInput(), variables, same, images, batch_size=4)["BatchNorm_0"]
    assert (found["var"] >= 0).all()
    np.testing.assert_allclose(found["mean"], images[0, 0, 0], rtol=1e-5)


def test_a_network_without_batch_normalisation_has_no_statistics_to_measure():
    tokens = np.zeros((4, 7), np.int32)
    variables = {**Words().init(KEY, tokens, train=False), "batch_stats": {}}
    with pytest.raises(InputError, match="the network has no batch normalisation"):
        clean_statistics(Words(), variables, same, tokens, batch_size=4)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config, data_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("derived") / "dropout"
    model = dataclasses.replace(tiny_config.model, dropout=0.3)
    loop.train(dataclasses.replace(tiny_config, epochs=1, model=model, experiment=""), folder, data_dir)
    return folder


def derive(
    workdir: Path, data_dir: Path, save_as: Path | None, *, force: bool = False, **changes: int
) -> dict[str, Any]:
    return evaluate_workdir(
        workdir,
        datasets=("test", "mnist"),
        checkpoint="last",
        data_dir=data_dir,
        force=force,
        derivation=Derivation(**changes),
        save_as=save_as,
        report=lambda line: None,
    )


def test_a_derived_evaluation_is_a_run_of_its_own_that_the_report_reads(workdir: Path, data_dir: Path, tmp_path: Path):
    plain = derive(workdir, data_dir, None)
    both = derive(workdir, data_dir, tmp_path / "both", mc_dropout=2, batch_norm_examples=300)
    assert both["config"]["derived"] == {"mc_dropout": 2, "batch_norm_examples": 300}
    assert json.loads((tmp_path / "both" / "config.json").read_text()) == both["config"]
    record = load_record(tmp_path / "both" / "predictions" / "fashion_mnist-test-5.npz")
    assert record.meta["config"] == both["config"]
    np.testing.assert_allclose(np.exp(record.logits.astype(float)).sum(axis=1), 1, rtol=1e-5)
    runs = [load_run(folder) for folder in (workdir, tmp_path / "both")]
    assert [group.name for group in make_groups(runs)] == ["dropout", "dropout+mc2+bn300"]
    assert [run.kind for run in runs] == ["mixup", "other"]
    assert both["results"]["fashion_mnist/test"]["nll"] != plain["results"]["fashion_mnist/test"]["nll"]
    # Again: from the seed alone, so the same; and the run itself is as it was.
    again = derive(workdir, data_dir, tmp_path / "both", mc_dropout=2, batch_norm_examples=300, force=True)
    assert again["results"] == both["results"]
    assert derive(workdir, data_dir, None)["results"] == json.loads(json.dumps(plain["results"]))
    with pytest.raises(InputError, match=r"another config \(.*derived.mc_dropout is 2 there and 3 here"):
        derive(workdir, data_dir, tmp_path / "both", mc_dropout=3, batch_norm_examples=300)
    with pytest.raises(InputError, match="is a folder that was trained in; expected a new one"):
        derive(workdir, data_dir, workdir, mc_dropout=2)
    with pytest.raises(InputError, match="--batch_norm_examples=331, but the run has 330 training examples"):
        derive(workdir, data_dir, tmp_path / "many", batch_norm_examples=331)


def test_features_of_a_run_give_its_logits_and_are_scored(workdir: Path, data_dir: Path, tmp_path: Path):
    options = {"datasets": ("test", "mnist"), "checkpoint": "last", "data_dir": data_dir, "force": False}
    plain = derive(workdir, data_dir, None, force=True)
    found = evaluate_workdir(workdir, features=True, report=lambda line: None, **options)
    assert found["results"] == plain["results"]
    record = load_record(workdir / "predictions" / "fashion_mnist-test-5.npz", features=True)
    head = record.training
    assert len(head.features) == len(head.labels) == 330
    again = record.features.astype(float) @ head.kernel + head.bias
    np.testing.assert_allclose(again, record.logits, atol=2e-3 * np.abs(record.logits).max())
    assert 0 <= found["ood"]["mnist"]["scores"]["knn"]["auroc"] <= 1
    load_run(workdir)  # and the report reads it
    # It is not done again, and the next evaluation without features leaves it as it is.
    assert evaluate_workdir(workdir, features=True, report=lambda line: None, **options) == found


def test_dropout_that_was_not_trained_is_not_sampled(tiny_config: Config):
    with pytest.raises(InputError, match="--mc_dropout=10, but it was trained without dropout"):
        Derivation(mc_dropout=10).check(tiny_config)


def test_an_ensemble_of_runs_is_the_mean_of_their_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    members = [make_run(tmp_path / f"m{seed}", seed=seed, alpha=0.2) for seed in (0, 1, 2)]
    for member in members[1:]:
        rewrite(member / "evaluation.json", lambda evaluation: evaluation["ood"].pop("gaussian_noise"))
    # A setting that changes no result, and one that an older version did not write.
    rewrite(members[1] / "evaluation.json", lambda evaluation: evaluation["config"]["data"].update(workers=3))
    rewrite(members[2] / "evaluation.json", lambda evaluation: evaluation["config"].pop("ema", None))
    names = ",".join(map(str, members))
    assert run_command(main, [f"--ensemble={names}", f"--save_as={tmp_path / 'all'}"]) == 0
    assert "accuracy" in capsys.readouterr().out
    run = load_run(tmp_path / "all")
    record = f"predictions/fashion_mnist-test-{STEP}.npz"
    logits = [load_record(member / record).logits.astype(float) for member in members]
    expected = np.mean([scipy.special.softmax(one, axis=1) for one in logits], axis=0)
    found = np.exp(load_record(tmp_path / "all" / record).logits.astype(float))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert (run.recorded["experiment"], run.recorded["derived"]) == ("quickstart/mixup+ensemble3", {"ensemble": 3})
    assert (list(run.ood), run.kind, run.temperature is not None) == (["mnist"], "other", True)
    assert [member["seed"] for member in run.evaluation["ensemble"]] == [0, 1, 2]
    differences = run.evaluation["results"]["fashion_mnist/test"]["ensemble"]
    classes = np.argmax(logits, axis=2)
    apart = np.mean([classes[a] != classes[b] for a, b in ((0, 1), (0, 2), (1, 2))])
    assert differences["disagreement"] == pytest.approx(apart)
    assert run.evaluation["step"] == STEP
    # The same command may be given again, another one must not overwrite it.
    evaluate_ensemble(members, tmp_path / "all")
    with pytest.raises(InputError, match=r"belongs to a run of another config \(.*ensemble is 3 there and 2 here"):
        evaluate_ensemble(members[:2], tmp_path / "all")


def test_what_is_no_ensemble_is_refused(tmp_path: Path):
    one, other = make_run(tmp_path / "a"), make_run(tmp_path / "b", alpha=0.2, seed=1)
    (tmp_path / "copy").symlink_to(one)
    for members, message in (
        ([one], "--ensemble names 1 run; expected at least two"),
        ([one, other], "experiment of .*b is not that of .*a; expected runs of one config"),
        ([one, tmp_path / "copy"], "copy has seed 0, as .*a has; expected runs of different seeds"),
        (
            [one, tmp_path / "none"],
            "evaluation.json is missing or damaged .FileNotFoundError.; expected that of an eval",
        ),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_ensemble(members, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_stranger_wrote_into_an_evaluation_cannot_leave_the_folder_of_an_ensemble(tmp_path: Path):
    members = [make_run(tmp_path / "runs" / str(seed), seed=seed) for seed in (0, 1)]
    files = [member / "evaluation.json" for member in members]
    whole, before = [file.read_bytes() for file in files], sorted(tmp_path.rglob("*"))
    for change in (
        {"step": "/../../../escaped"},
        {"results": {"a\0b/test": {}}},
        {"ood": {"a\x1b": {}}},
        {"config": []},
        {"config": {"seed": [1]}},
        {"config": {"seed": 1, "derived": 5}},
    ):
        for file, content in zip(files, whole, strict=True):
            file.write_text(json.dumps(json.loads(content) | change))
        with pytest.raises(InputError, match="is missing or damaged"):
            evaluate_ensemble(members, tmp_path / "runs" / "out")
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir=.", "--mc_dropout=10"], "--mc_dropout given without --save_as"),
        (["--workdir=.", "--save_as=b"], "--save_as given without --mc_dropout or --batch_norm_examples"),
        (["--workdir=.", "--save_as=b", "--mc_dropout=0"], "--mc_dropout=0; expected a positive number"),
        (["--workdir=.", "--save_as=b", "--mc_dropout=2", "--odin"], "--odin takes gradients"),
        (["--ensemble=a,b"], "--ensemble given without --save_as"),
        (["--ensemble=a,b", "--save_as=c", "--force"], "--force given without --workdir"),
        (["--predictions=a.npz", "--save_as=c"], "--save_as given without --workdir or --ensemble"),
        (["--predictions=a.npz", "--mc_dropout=2"], "--mc_dropout given without --workdir"),
    ],
)
def test_flags_that_do_not_fit_are_named(flags: list[str], message: str):
    with pytest.raises(InputError, match=message):
        main(flags)
