"""Progress lines: how far work is, and how long it will take."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

SECONDS_BETWEEN_LINES = 10.0
FIRST_STEPS, FIRST_SECONDS = 5, 2.0
"""The first estimate is made after so many steps, or so many seconds if that is sooner; the first step is not counted,
since it waits for the compiler."""


class Progress:
    """The progress line of a run: rewritten in place on a terminal, elsewhere printed every 10 seconds."""

    def __init__(
        self, *, total_steps: int, steps_per_epoch: int, batch_size: int, stream: TextIO | None = None
    ) -> None:
        self._total = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        given = sys.stdout if stream is None else stream
        self._stream = getattr(given, "unescaped", given)  # the line holds numbers and codes of a terminal
        self._terminal = self._stream.isatty()
        self._first: tuple[int, float] | None = None
        self._printed = float("-inf")

    def estimated(self, step: int) -> bool:
        """Takes that `step` steps are done, at the start; returns True once it has shown a first estimate."""
        if self._first is None:
            self._first = (step, time.monotonic())
            return False
        steps, seconds = step - self._first[0], time.monotonic() - self._first[1]
        if steps < FIRST_STEPS and (steps < 1 or seconds < FIRST_SECONDS):
            return False
        self.update(step, {}, important=True)
        return True

    def update(self, step: int, scalars: Mapping[str, float], *, important: bool = False) -> None:
        """Shows the state after `step` steps.

        The rate is measured from the first update on, which leaves compiling out of it.

        An important state is always printed, even just after another line.
        """
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        line = self._line(step, now, scalars)
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if important else ""))
        elif important or now - self._printed >= SECONDS_BETWEEN_LINES:
            self._stream.write(line + "\n")
            self._printed = now
        self._stream.flush()

    def _line(self, step: int, now: float, scalars: Mapping[str, float]) -> str:
        epoch = -(-step // self._steps_per_epoch)
        epochs = self._total // self._steps_per_epoch
        parts = [f"epoch {epoch}/{epochs}", f"step {step}/{self._total} ({step / self._total:.0%})"]
        parts += [f"{plain_name(name)} {value:.4g}" for name, value in scalars.items()]
        return " | ".join(parts + self._pace(step, now))

    def _pace(self, step: int, now: float) -> list[str]:
        first_step, first_time = self._first or (step, now)
        if step == first_step or now == first_time:
            return ["ETA to be measured"]
        rate = (step - first_step) / (now - first_time)
        return [f"{rate * self._batch_size:.0f} examples/s", f"ETA {duration((self._total - step) / rate)}"]


def plain_name(key: str) -> str:
    """Returns the key of a metric as a reader would say it, such as "validation ECE (15 bins)"."""
    words = [{"ece": "ECE", "oe": "OE", "nll": "NLL", "train": "training"}.get(word, word) for word in key.split("_")]
    if words[-1].isdigit() and len(words) > 1:
        words[-1] = f"({words[-1]} bins)"
    return " ".join(words)


def duration(seconds: float) -> str:
    """Returns a time span as 0:42, 12:03 or 3:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def heartbeat(beat: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls `beat` at regular intervals, from a separate thread, until the end of the block."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
