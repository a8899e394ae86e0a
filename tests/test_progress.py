import io

import pytest

from mixup_jax import progress
from mixup_jax.progress import Progress, duration


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
    assert second == "epoch 3/10 | step 60/200 (30%) | train loss 1.25 | 640 img/s | ETA 0:14"


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
