import gc
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import bin_confidences
from mixup_jax.training import logs as training_logs
from mixup_jax.training.logs import JsonLines, open_logs


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
    with open_logs(tmp_path, last_step=0, tensorboard=True, report=said.append) as logs:
        assert len(logs) == 1
    assert len(said) == 1
    assert "mixup_jax[tensorflow]" in said[0]
    assert "metrics.jsonl" in said[0]


def test_tensorboard_events_are_written_where_it_is_installed(tmp_path: Path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("tensorflow")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_logs(tmp_path, last_step=0, tensorboard=True, report=print) as logs:
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

    log = object.__new__(training_logs.TensorBoard)  # without TensorFlow, which loads for seconds
    log._writer = SimpleNamespace(write_images=lambda step, images: None)
    gc.collect()
    before = sum(issubclass(type(one), Figure) for one in gc.get_objects())
    log.write_reliability(3, bin_confidences([0.6, 0.9], [True, False], 15))
    assert gc.isenabled()
    assert sum(issubclass(type(one), Figure) for one in gc.get_objects()) == before
