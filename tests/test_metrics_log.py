import gc
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from mixup_jax.config import Config
from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import bin_confidences
from mixup_jax.training import logs as training_logs
from mixup_jax.training.logs import JsonLines, check_loggers, open_logs
from mixup_jax.training.trackers import Careful


def test_lines_after_the_step_that_training_continues_from_are_dropped(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n{"step": 3, "a": 3.0}\n{"step": 4, "a')
    log = JsonLines(path, last_step=2)
    log.write(3, {"a": 3.5})
    log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "a": 1.0},
        {"step": 2, "a": 2.0},
        {"step": 3, "a": 3.5},
    ]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"a": 1}', '{"step": "x"}'])
def test_a_foreign_line_is_named_and_nothing_is_changed(tmp_path: Path, line: str):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "a": 1.0}}\n{line}\n')
    before = path.read_text()
    with pytest.raises(InputError, match=r"metrics.jsonl line 2 is .*expected a JSON object with a step"):
        JsonLines(path, last_step=1)
    assert path.read_text() == before


def test_without_tensorflow_one_line_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_logs.importlib.util, "find_spec", lambda package: None)
    said: list[str] = []
    with open_logs(Config(), tmp_path, last_step=0, report=said.append) as logs:
        assert len(logs) == 1
    assert len(said) == 1
    assert "mixup_jax[tensorflow]" in said[0]
    assert "metrics.jsonl" in said[0]


def test_tensorboard_events_are_written_where_it_is_installed(tmp_path: Path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("tensorflow")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_logs(Config(), tmp_path, last_step=0, report=print) as logs:
        for log in logs:
            log.write(3, {"train_loss": 0.5})
            log.write_reliability(3, bin_confidences([0.6, 0.9], [True, False], 15))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tensors = events.Tensors("train_loss")
    assert [event.step for event in tensors] == [3]
    width, height, png = events.Tensors("validation_reliability")[0].tensor_proto.string_val
    assert png.startswith(b"\x89PNG")
    assert int(height) > int(width) > 400
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_a_drawn_diagram_leaves_no_figure_behind():
    """Figures are cycles of references, of which many would gather before Python's collector comes by."""
    from matplotlib.figure import Figure

    log = Careful("none", SimpleNamespace(write_picture=lambda step, name, pixels: None), print)
    gc.collect()
    before = sum(issubclass(type(one), Figure) for one in gc.get_objects())
    log.write_reliability(3, bin_confidences([0.6, 0.9], [True, False], 15))
    assert gc.isenabled()
    assert sum(issubclass(type(one), Figure) for one in gc.get_objects()) == before


class FakeWandb:
    """What the library does with what is given to it: steps that are not later than the last are ignored."""

    def __init__(self):
        self.runs, self.finished = {}, 0
        self.Image = bytes

    def init(self, *, id, resume, **settings):
        assert resume == "allow"
        assert settings["config"]["seed"] == 0
        self.steps = self.runs.setdefault(id, {})
        return self

    def log(self, values, step):
        if step >= max(self.steps, default=0):
            self.steps.setdefault(step, {}).update(values)

    def finish(self):
        self.finished += 1


class FakeMlflow:
    """A server that keeps the last value of a metric at a step."""

    def __init__(self):
        self.entities, self.runs, self.finished = SimpleNamespace(Metric=lambda *facts: facts), {}, 0

    def MlflowClient(self, place):  # noqa: N802
        assert place.startswith("file:///")
        return self

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return name

    def create_run(self, experiment, run_name):
        name = f"run {len(self.runs)}"
        self.runs[name] = {}
        return SimpleNamespace(info=SimpleNamespace(run_id=name))

    def log_param(self, run, key, value):
        assert key in ("seed", "method.mixup_alpha") or "." in key or key in vars(Config())

    def update_run(self, run, status):
        assert (run in self.runs, status) == (True, "RUNNING")

    def log_batch(self, run, metrics):
        for key, value, _, step in metrics:
            self.runs[run].setdefault(step, {})[key] = value

    def log_image(self, run, pixels, file):
        self.runs[run].setdefault(int(Path(file).stem), {})["validation_reliability"] = bytes(pixels)

    def set_terminated(self, run):
        self.finished += 1


def interrupted(config: Config, workdir: Path) -> None:
    """Writes steps 1 to 4, and again from 3 on, as a run does that goes on after the checkpoint of step 2."""
    for last, steps in ((0, range(1, 5)), (2, range(3, 7))):
        with open_logs(config, workdir, last_step=last, report=print) as logs:
            for step in steps:
                for log in logs:
                    log.write(step, {"epoch": step // 2, "train_loss": 1 / step})


def lines_of(workdir: Path) -> dict[int, dict[str, float]]:
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line.pop("step"): line for line in found}


@pytest.mark.parametrize(("name", "fake"), [("wandb", FakeWandb), ("mlflow", FakeMlflow)])
def test_a_tracker_has_what_metrics_jsonl_has_also_after_an_interruption(tmp_path, monkeypatch, name, fake):
    library = fake()
    library.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    config = Config(loggers=(name,))
    check_loggers(config)
    interrupted(config, tmp_path)
    assert list(library.runs.values()) == [lines_of(tmp_path)]
    with open_logs(config, tmp_path, last_step=6, report=print) as (_, tracker):
        tracker.write_reliability(6, bin_confidences([0.6, 0.9], [True, False], 15))
    (steps,) = library.runs.values()
    assert len(steps[6]["validation_reliability"]) > 10_000


def test_a_tracker_that_fails_is_reported_once_and_the_run_goes_on(tmp_path):
    def fail(*_):
        raise ConnectionError("no route")

    said: list[str] = []
    tracker = Careful("wandb", SimpleNamespace(write=fail, close=fail), said.append)
    for step in (1, 2):
        tracker.write(step, {"x": 1.0})
    tracker.close()
    assert said == ["wandb gets nothing more, because it failed (no route); all is in metrics.jsonl"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("wandb",), r"loggers names wandb, which is not installed; run: pip install .mixup_jax\[wandb\]"),
        (("mlflo",), r"unknown loggers 'mlflo' .did you mean 'mlflow'"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_before_training(monkeypatch, names, message):
    monkeypatch.setattr(training_logs.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(InputError, match=message):
        check_loggers(Config(loggers=names))


def test_weights_and_biases_writes_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    interrupted(Config(loggers=("wandb",)), tmp_path)
    kept = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(kept) == 2
    assert {path.stem for path in kept} == {f"run-{json.loads((tmp_path / 'trackers.json').read_text())['wandb']}"}
    assert b"train_loss" in kept[1].read_bytes()


def test_mlflow_writes_files_of_its_own(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    interrupted(Config(loggers=("mlflow",)), tmp_path)
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    run = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    found = {metric.step: metric.value for metric in client.get_metric_history(run, "train_loss")}
    assert found == {step: line["train_loss"] for step, line in lines_of(tmp_path).items()}
    assert client.get_run(run).data.params["method.mixup_alpha"] == "0.0"
