import io

import pytest

from mixup_jax import progress
from mixup_jax.progress import Progress, duration, plain_name


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_and_eta_come_from_the_steps_since_the_first_update(clock: list[float]):
    stream = io.StringIO()
    line = Progress(total_steps=200, steps_per_epoch=20, batch_size=64, stream=stream)
    line.update(10, {"train_loss": 2.0}, important=True)
    clock[0] += 5
    line.update(60, {"train_loss": 1.25}, important=True)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("ETA to be measured")
    assert second == "epoch 3/10 | step 60/200 (30%) | training loss 1.25 | 640 examples/s | ETA 0:14"


def test_the_first_estimate_comes_within_a_few_steps(clock: list[float]):
    for seconds, expected in ((0.1, 6), (3.0, 2)):
        stream = io.StringIO()
        line = Progress(total_steps=1000, steps_per_epoch=100, batch_size=10, stream=stream)
        for step in range(1, 10):
            if line.estimated(step):
                break
            clock[0] += seconds
        assert step == expected
        assert stream.getvalue().count("ETA ") == 1
        assert "to be measured" not in stream.getvalue()


def test_names_are_plain():
    names = ("validation_ece_15", "validation_accuracy", "train_loss", "test_nll", "mystery\x1b")
    assert [plain_name(name) for name in names] == [
        *("validation ECE (15 bins)", "validation accuracy", "training loss", "test NLL", "mystery\x1b")
    ]


def test_away_from_a_terminal_lines_are_few(clock: list[float]):
    stream = io.StringIO()
    line = Progress(total_steps=100, steps_per_epoch=10, batch_size=1, stream=stream)
    for step in range(1, 31):
        line.update(step, {})
        clock[0] += 1
    assert stream.getvalue().count("\n") == 3


def test_on_a_terminal_one_line_is_rewritten(clock: list[float]):
    stream = Terminal()
    line = Progress(total_steps=100, steps_per_epoch=10, batch_size=1, stream=stream)
    line.update(1, {})
    line.update(2, {}, important=True)
    assert stream.getvalue().count("\r") == 2
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (42.4, "0:42"), (723, "12:03"), (11100, "3:05:00")])
def test_durations_read_as_people_write_them(seconds: float, text: str):
    assert duration(seconds) == text
