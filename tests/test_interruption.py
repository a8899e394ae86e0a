"""Runs that are stopped between two steps, or meet numbers that are none, or a folder in use."""

import dataclasses
import errno
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.small import NAME, add_model
from mixup_jax.config import CheckpointConfig, Config, ModelConfig, OptimizerConfig
from mixup_jax.data.feed import ResidentFeed
from mixup_jax.devices.mesh import replicate
from mixup_jax.errors import InputError
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.methods.method import Method
from mixup_jax.models import NETWORKS
from mixup_jax.runs.workdir import check_own, write_config
from mixup_jax.state import Batch, TrainState
from mixup_jax.store.verify import inspect, read_item, steps_in
from mixup_jax.training import loop
from mixup_jax.training import trainer as run_parts
from mixup_jax.training.logs import JsonLines
from mixup_jax.training.recorder import Recent, check_losses, means
from mixup_jax.training.step import skipping
from mixup_jax.training.stop import EXIT_INTERRUPTED, Interrupted, Stop, locked

pytestmark = pytest.mark.xdist_group("interruption")


@pytest.fixture(scope="module", autouse=True)
def _small() -> Any:
    """A small network, compiled once for all runs that compute the same."""
    compiled: dict[Any, Any] = {}
    prepare = loop.prepare

    def prepare_once(config: Config, spec: Any, steps_per_epoch: int, vocabulary: Any, embedding: Any) -> Any:
        parts = (config.optimizer, config.method, config.data, config.model)
        key = (config.parallel, config.on_nan, *parts, run_parts.make_train_step)
        if key not in compiled:
            run, state = prepare(config, spec, steps_per_epoch, vocabulary, embedding)
            compiled[key] = run, jax.device_get(state)
        run, state = compiled[key]
        return dataclasses.replace(run, config=config), replicate(run.mesh, jax.tree.map(np.copy, state))

    add_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "prepare", prepare_once)
        yield
    del NETWORKS[NAME]


def config_of(tiny_config: Config, parallel: str = "jit", **changes: Any) -> Config:
    """Three epochs of five steps, a line every third step: lines, epochs and checkpoints fall apart."""
    small = {
        "epochs": 3,
        "log_every_steps": 3,
        "parallel": parallel,
        "model": ModelConfig(name=NAME, width=4),
        "evaluation": dataclasses.replace(tiny_config.evaluation, every_epochs=2),
    }
    return dataclasses.replace(tiny_config, **(small | changes))


class StopAfter(Stop):
    """Asks for the end after a step, as a signal during that step would."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def requested(self, step: int) -> bool:
        if step == self.step:
            self.request()
        return super().requested(step)


def outcome(workdir: Path) -> dict[str, Any]:
    step = steps_in(workdir / "checkpoints")[-1]
    stored = inspect(workdir / "checkpoints", step)
    assert stored.verified
    sums = {name: stored.facts["checksums"][name] for name in ("variables", "optimizer")}
    return {"step": step, "scores": stored.facts["scores"], "lines": (workdir / "metrics.jsonl").read_text(), **sums}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config, data_dir: Path) -> Callable[[str], Any]:
    known: dict[str, dict[str, Any]] = {}

    def run(parallel: str) -> dict[str, Any]:
        if parallel not in known:
            workdir = tmp_path_factory.mktemp(parallel)
            loop.train(config_of(tiny_config, parallel), workdir, data_dir)
            known[parallel] = outcome(workdir)
        return known[parallel]

    return run


def test_the_lines_and_epochs_of_the_run_are_what_the_others_assume(alone: Callable[[str], Any]):
    lines = [json.loads(line) for line in alone("jit")["lines"].splitlines()]
    assert [line["step"] for line in lines if "train_loss" in line] == [3, 5, 6, 9, 10, 12, 15]
    assert [line["step"] for line in lines if "validation_accuracy" in line] == [10, 15]


# Within a line (1, 7), where one is due (3, 6), at the end of an epoch without (5) or with validation (10), of the run.
@pytest.mark.parametrize(
    ("parallel", "stops"), [("jit", (1, 3, 5)), ("jit", (6, 7, 10)), ("jit", (15,)), ("pmap", (2, 5, 10))]
)
def test_a_run_that_is_stopped_continues_to_the_same_bits(
    parallel: str,
    stops: tuple[int, ...],
    alone: Callable[[str], Any],
    tiny_config: Config,
    data_dir: Path,
    tmp_path: Path,
):
    config = config_of(tiny_config, parallel)
    for step in stops:
        with pytest.raises(Interrupted, match=f"after step {step} of 15"):
            loop.train(config, tmp_path, data_dir, stop=StopAfter(step))
        assert steps_in(tmp_path / "checkpoints")[-1] == step
    loop.train(config, tmp_path, data_dir)
    assert outcome(tmp_path) == alone(parallel)


def test_which_classes_are_mixed_is_what_a_validation_found_and_survives_an_interruption(
    tiny_config: Config, data_dir: Path, tmp_path: Path
):
    method = Method(mixup_alpha=1.0, scope="example", adapt_classes=True)
    config = dataclasses.replace(config_of(tiny_config), method=method)
    loop.train(config, tmp_path / "alone", data_dir)
    for step in (7, 12):
        with pytest.raises(Interrupted):
            loop.train(config, tmp_path / "stopped", data_dir, stop=StopAfter(step))
    loop.train(config, tmp_path / "stopped", data_dir)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "alone")
    mixing = [json.loads(line).get("train_mixing") for line in outcome(tmp_path / "alone")["lines"].splitlines()]
    mixing = [value for value in mixing if value is not None]
    assert mixing[:5] == [0] * 5  # the first validation is after step 10
    assert any(mixing[5:])


def test_a_validation_is_abandoned_and_made_up_for(
    alone: Callable[[str], Any], tiny_config: Config, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stop, validate = Stop(), loop.validate

    def signalled(*arguments: Any) -> Any:
        stop.request()
        raise AssertionError("went on validating")

    monkeypatch.setattr(loop, "validate", signalled)
    with pytest.raises(Interrupted, match="after step 10 of 15"):
        loop.train(config_of(tiny_config), tmp_path, data_dir, stop=stop)
    # Killed after the validation's line was written, before its checkpoint was: the line must not be doubled.
    monkeypatch.setattr(loop, "validate", validate)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Checkpoints, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loop.train(config_of(tiny_config), tmp_path, data_dir)
    assert "validation_accuracy" in (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    loop.train(config_of(tiny_config), tmp_path, data_dir)
    assert outcome(tmp_path) == alone("jit")


@pytest.mark.parametrize("asked", [True, False])
def test_a_feed_that_fails_because_of_the_signal_is_an_interruption(
    asked: bool,
    alone: Callable[[str], Any],
    tiny_config: Config,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    stop, fed = Stop(), ResidentFeed.fed

    def failing(feed: Any, train: Any, key: Any, mesh: Any, first: int) -> Any:
        yield from itertools.islice(fed(feed, train, key, mesh, first), 7 - first)
        if asked:
            stop.request()
        raise RuntimeError("a worker process was ended")

    config = config_of(tiny_config)
    with monkeypatch.context() as patch:
        patch.setattr(ResidentFeed, "fed", failing)
        error, message = (Interrupted, "after step 7 of 15") if asked else (RuntimeError, "a worker process was ended")
        with pytest.raises(error, match=message):
            loop.train(config, tmp_path, data_dir, stop=stop)
    loop.train(config, tmp_path, data_dir)
    assert outcome(tmp_path) == alone("jit")


def test_checkpoints_within_an_epoch_change_nothing(
    alone: Callable[[str], Any], tiny_config: Config, data_dir: Path, tmp_path: Path
):
    often = config_of(tiny_config, checkpoint=CheckpointConfig(every_steps=2))
    with pytest.raises(Interrupted):
        loop.train(often, tmp_path, data_dir, stop=StopAfter(9))
    assert steps_in(tmp_path / "checkpoints") == [8, 9]
    shutil.rmtree(tmp_path / "checkpoints" / "9" / "variables")
    said: list[str] = []
    loop.train(often, tmp_path, data_dir, said.append)
    assert any("checkpoints/9 is damaged: variables cannot be read" in line for line in said)
    assert "continuing after step 8 of 15" in said
    assert outcome(tmp_path) == alone("jit")


def test_a_run_of_an_older_version_is_continued_where_new_settings_have_their_defaults(
    alone: Callable[[str], Any], tiny_config: Config, data_dir: Path, tmp_path: Path
):
    with pytest.raises(Interrupted):
        loop.train(config_of(tiny_config), tmp_path, data_dir, stop=StopAfter(7))
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["checkpoint"], stored["on_nan"], stored["optimizer"]["nesterov"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    loop.train(config_of(tiny_config), tmp_path, data_dir)
    assert outcome(tmp_path) == alone("jit")
    plain = dataclasses.replace(tiny_config.optimizer, nesterov=False)
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"optimizer.nesterov is True there and False here"):
        loop.train(config_of(tiny_config, optimizer=plain), tmp_path, data_dir)


RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {
        "optimizer": OptimizerConfig(name="adamw", learning_rate=0.01, clip_norm=1.0, accumulate=3, ema=0.9),
        "data": {"policy": "trivialaugment", "erase": 0.5},
    },
    "lion": {
        "optimizer": OptimizerConfig(name="lion", learning_rate=0.001, ema=0.5),
        "data": {"policy": "randaugment", "policy_layers": 1},
        "parallel": "pmap",
    },
    "lamb": {
        "optimizer": OptimizerConfig(name="lamb", weight_decay=0.1, accumulate=2, freeze=("Dense_0", "BatchNorm")),
        "data": {},
        "model": ModelConfig(name=NAME, width=4, weights="begun", norm="running"),
        "on_nan": "skip",
    },
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config, data_dir: Path) -> Path:
    """The folder of a run of one epoch."""
    workdir = tmp_path_factory.mktemp("begun")
    loop.train(dataclasses.replace(config_of(tiny_config), epochs=1), workdir, data_dir)
    return workdir


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_continues_to_the_same_bits(
    name: str, begun: Path, tiny_config: Config, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(begun, "begun")
    changes = RECIPES[name] | {"data": dataclasses.replace(tiny_config.data, **RECIPES[name]["data"])}
    config = dataclasses.replace(config_of(tiny_config, **changes), epochs=2)
    loop.train(config, Path("alone"), data_dir)
    for step in (4, 7):  # within an accumulation, and between two
        with pytest.raises(Interrupted, match=f"after step {step} of 10"):
            loop.train(config, Path("stopped"), data_dir, stop=StopAfter(step))
        shutil.rmtree("begun", ignore_errors=True)  # what a run began with is not needed again
    loop.train(config, Path("stopped"), data_dir)
    assert outcome(Path("stopped")) == outcome(Path("alone"))
    saved = {item: read_item(Path("alone/checkpoints/10") / item) for item in ("variables", "optimizer")}
    assert ("trained" in saved["optimizer"]) == bool(config.optimizer.ema)
    if config.optimizer.ema:
        same = jax.tree.leaves(jax.tree.map(np.array_equal, saved["variables"], saved["optimizer"]["trained"]))
        assert not any(same)
    if config.optimizer.freeze:
        same = jax.tree.map(np.array_equal, saved["variables"], read_item(begun / "checkpoints" / "5" / "variables"))
        last = same["params"].pop("Dense_1")
        assert all(jax.tree.leaves(same))
        assert not any(jax.tree.leaves(last))


def test_layers_that_a_network_has_not_are_refused_before_training(
    begun: Path, tiny_config: Config, data_dir: Path, tmp_path: Path
):
    model = ModelConfig(name=NAME, width=4, weights=str(begun))
    for wrong, message in [
        ({"freeze": ("Dense_7",)}, r"unknown layer of small in optimizer.freeze 'Dense_7'.*BatchNorm_0, Dense_0"),
        ({"freeze": ("Dense", "Batch")}, r"every layer of small; expected one that is trained"),
        ({"backbone_rate": 0.1}, r"small has no layer 'head'"),
    ]:
        config = config_of(tiny_config, model=model, optimizer=OptimizerConfig(**wrong))
        with pytest.raises(InputError, match=message):
            loop.train(config, tmp_path, data_dir)
    random = config_of(tiny_config, optimizer=OptimizerConfig(freeze=("Dense_0",)))
    with pytest.raises(InputError, match=r"begins with random weights; expected model.weights"):
        loop.train(random, tmp_path, data_dir)
    assert not (tmp_path / "config.json").exists()


def test_a_run_of_constant_rate_is_trained_on_to_the_bits_of_a_longer_one(
    tiny_config: Config, data_dir: Path, tmp_path: Path
):
    constant = OptimizerConfig(schedule="steps", step_epochs=(), learning_rate=0.05)
    long = dataclasses.replace(config_of(tiny_config, optimizer=constant), epochs=4)
    short = dataclasses.replace(long, epochs=2)
    loop.train(long, tmp_path / "long", data_dir)
    for config in (short, long):
        loop.train(config, tmp_path / "both", data_dir)
    assert outcome(tmp_path / "both") == outcome(tmp_path / "long")
    saved = inspect(tmp_path / "both" / "checkpoints", 10).facts["config"]
    assert (saved["epochs"], check_own(tmp_path / "both", 10, saved)["epochs"]) == (2, 4)
    for other in (short, dataclasses.replace(long, epochs=5, seed=1)):
        with pytest.raises(InputError, match=r"belongs to a run of another config \((seed|epochs) is"):
            loop.train(other, tmp_path / "both", data_dir)


@pytest.mark.parametrize("schedule", [{"schedule": "cosine"}, {"schedule": "steps", "step_epochs": (1,)}])
def test_a_run_whose_rate_follows_its_length_is_not_trained_on(
    schedule: dict[str, Any], tiny_config: Config, data_dir: Path, tmp_path: Path
):
    config = config_of(tiny_config, optimizer=OptimizerConfig(**schedule))
    write_config(tmp_path, config)
    message = r"a run of 3 epochs, which cannot be trained on to 4: its learning rate follows.*model.weights="
    with pytest.raises(InputError, match=message):
        loop.train(dataclasses.replace(config, epochs=4), tmp_path, data_dir)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    tiny_config: Config, data_dir: Path, tmp_path: Path
):
    wild = dataclasses.replace(tiny_config.optimizer, learning_rate=1e30)
    config = config_of(tiny_config, optimizer=wild, checkpoint=CheckpointConfig(every_steps=1))
    with pytest.raises(
        InputError,
        match=r"(the loss is (nan|inf) at|NaN or infinity after) step \d+.*saved before are intact.*learning_rate",
    ):
        loop.train(config, tmp_path, data_dir)
    for step in steps_in(tmp_path / "checkpoints"):
        assert inspect(tmp_path / "checkpoints", step).verified
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_the_first_bad_step_is_named(tiny_config: Config):
    check_losses(tiny_config, [1.0, 2.0], 12)
    with pytest.raises(InputError, match=r"the loss is nan at step 11; .*optimizer.learning_rate 0.1 .*float32.*skip"):
        check_losses(tiny_config, [1.0, float("nan"), float("inf")], 12)


def test_skipping_keeps_the_state_from_before_a_bad_step_and_changes_no_other():
    optimizer = optax.sgd(0.1, momentum=0.9)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        loss, gradient = jax.value_and_grad(lambda w: jnp.sum((w * batch.inputs) ** 2))(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, state.batch_stats, opt_state), {"loss": loss}

    before = TrainState(jnp.int32(4), jnp.ones(3), {"m": jnp.ones(2)}, optimizer.init(jnp.ones(3)))
    skip = jax.jit(skipping(step))
    key = jax.random.key(0)
    good = Batch(jnp.arange(3.0), jnp.zeros(3), jnp.ones(3))
    after, metrics = skip(before, good, key)
    jax.tree.map(np.testing.assert_array_equal, after, jax.jit(step)(before, good, key)[0])
    assert float(metrics["skipped"]) == 0
    for value in (np.nan, np.inf, 1e30):  # 1e30: the loss overflows
        after, metrics = skip(before, good._replace(inputs=jnp.array([0, value, 1])), key)
        jax.tree.map(np.testing.assert_array_equal, after._replace(step=before.step), before)
        assert int(after.step) == 5
        assert (float(metrics["skipped"]), float(metrics["loss"])) == (1, 0)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_skipped_steps_are_counted_and_the_run_goes_on(
    parallel: str, tiny_config: Config, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make = run_parts.make_train_step

    def bad_at_three(*arguments: Any, **settings: Any) -> Any:
        step = make(*arguments, **settings)

        def with_nan(state: TrainState, batch: Batch, key: jax.Array) -> Any:
            new, metrics = step(state, batch, key)
            return new, metrics | {"loss": jnp.where(new.step == 3, jnp.nan, metrics["loss"])}

        return with_nan

    monkeypatch.setattr(run_parts, "make_train_step", bad_at_three)
    with pytest.raises(InputError, match="the loss is nan at step 3;"):
        loop.train(config_of(tiny_config, parallel), tmp_path, data_dir)
    # A run that ended under "stop" may be resumed with "skip".
    loop.train(config_of(tiny_config, parallel, on_nan="skip"), tmp_path, data_dir)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    skipped = {line["step"]: line["train_skipped"] for line in lines if "train_skipped" in line}
    assert skipped == {step: float(step == 3) for step in (3, 5, 6, 9, 10, 12, 15)}


def test_means_leave_skipped_steps_out():
    steps = [{"loss": np.float32(1), "skipped": 0.0}, {"loss": np.float32(0), "skipped": 1.0}]
    assert means(steps) == {"train_loss": 1.0, "train_skipped": 1.0}
    assert means(steps[1:]) == {"train_skipped": 1.0}
    assert means([{"loss": np.float32(1)}, {"loss": np.float32(2)}]) == {"train_loss": 1.5}
    # Stopped under one setting and continued under the other, within a line.
    assert means([{"loss": np.float32(3)}, *steps]) == {"train_loss": 2.0, "train_skipped": 1.0}
    assert means([*steps, {"loss": np.float32(3)}]) == {"train_loss": 2.0}


def test_recent_metrics_pass_through_a_checkpoint_exactly():
    values = [{"loss": np.float32(value)} for value in np.random.default_rng(0).normal(size=5)]
    told: list[tuple[int, Any]] = []
    whole = Recent(4, lambda step, steps: told.append((step, means(steps))))
    for step, one in enumerate(values, 1):
        whole.add(step, one)
    whole.finish(5)
    expected, told = told, []
    for cut in range(5):
        told.clear()
        first = Recent(4, lambda step, steps: told.append((step, means(steps))))
        for step in range(cut):
            first.add(step + 1, values[step])
        saved = json.loads(json.dumps(first.settle()))
        second = Recent(4, lambda step, steps: told.append((step, means(steps))), saved)
        for step in range(cut, 5):
            second.add(step + 1, values[step])
        second.finish(5)
        assert told == expected


def test_no_more_lines_are_kept_than_there_were(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "a": 1}\n{"step": 2, "b": 1}\n{"step": 3}\n')
    log = JsonLines(path, last_step=2, lines=2)
    log.write(2, {"b": 2})
    assert log.sync() == 3
    log.close()
    assert path.read_text() == '{"step": 1}\n{"step": 2, "a": 1}\n{"step": 2, "b": 2}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        JsonLines(path, last_step=2).write(3, {"loss": float("nan")})


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match=r"metrics.jsonl cannot be read \(Is a directory\); .* move it away"):
        JsonLines(tmp_path / "metrics.jsonl", last_step=0)


def test_a_folder_in_use_is_refused_with_the_one_who_uses_it(tiny_config: Config, data_dir: Path, tmp_path: Path):
    with locked(tmp_path, print):
        with pytest.raises(InputError, match=rf"in use by process {os.getpid()} on .* since 2\d\d\d-"):
            loop.train(config_of(tiny_config), tmp_path, data_dir)
        assert not steps_in(tmp_path / "checkpoints")
    with locked(tmp_path, print):
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path):
    script = "import sys, time; from pathlib import Path; from mixup_jax.training.stop import locked\n"
    script += "with locked(Path(sys.argv[1]), print): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match=f"in use by process {process.pid} on"), locked(tmp_path, print):
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    with locked(tmp_path, print):
        assert f"process {os.getpid()} " in (tmp_path / "lock").read_text()


def test_a_file_system_without_locks_is_mentioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    said: list[str] = []
    with locked(tmp_path, said.append):
        assert "file system without locks" in said[0]


def test_swapped_checkpoints_of_two_runs_are_refused(tiny_config: Config, data_dir: Path, tmp_path: Path):
    configs = {name: config_of(tiny_config, seed=seed) for seed, name in enumerate("ab")}
    for name, config in configs.items():
        loop.train(config, tmp_path / name, data_dir)
    for old, new in (("a/checkpoints", "kept"), ("b/checkpoints", "a/checkpoints"), ("kept", "b/checkpoints")):
        (tmp_path / old).rename(tmp_path / new)
    for name, config in configs.items():
        with pytest.raises(InputError, match=r"belongs to a run of another config \(seed is"):
            loop.train(config, tmp_path / name, data_dir)
        with pytest.raises(InputError, match=r"checkpoint \d+ in .* is not of the run in config.json \(seed is"):
            evaluate_workdir(tmp_path / name, datasets=None, checkpoint="last", data_dir=data_dir, force=False)
        assert not (tmp_path / name / "evaluation.json").exists()


SIGNALLED = """
import sys, time
from mixup_jax.devices.mesh import replicate
from mixup_jax.training.stop import Signals
with Signals() as stop:
    print("ready", flush=True)
    if sys.argv[1] == "starting":
        time.sleep(600)  # as compiling does, it goes on after a handler
    step = 0
    while not stop.requested(step := step + 1):
        if step == 1:
            print("stepping", flush=True)
        time.sleep(0.01)
    print("saving", flush=True)
    if sys.argv[1] == "stuck":
        time.sleep(600)
sys.exit(75)
"""


@pytest.mark.parametrize(
    ("case", "number", "said"),
    [
        ("starting", signal.SIGTERM, "interrupted by SIGTERM before the first step"),
        ("stepping", signal.SIGINT, "SIGINT: finishing the step, then saving"),
        ("stuck", signal.SIGTERM, "interrupted by a second SIGTERM"),
    ],
)
def test_signals_end_a_process_as_documented(case: str, number: signal.Signals, said: str):
    process = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, case],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    expected = {"starting": ["ready"], "stepping": ["ready", "stepping"], "stuck": ["ready", "stepping"]}[case]
    for line in expected:
        assert process.stdout.readline() == f"{line}\n"
    process.send_signal(number)
    if case == "stuck":
        assert process.stdout.readline() == "saving\n"
        time.sleep(0.2)
        process.send_signal(number)
    try:
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == EXIT_INTERRUPTED
    assert said in err


def test_with_several_processes_jax_decides_at_which_step(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr("mixup_jax.training.stop.multihost_utils.reached_preemption_sync_point", lambda step: step == 3)
    stop = Stop()
    stop.request()
    assert [stop.requested(step) for step in (1, 2, 3, 4)] == [False, False, True, False]
