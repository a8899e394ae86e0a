"""The logs of a run's metrics: `metrics.jsonl`, and the trackers that its config names."""

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mixup_jax.config import Config
from mixup_jax.devices.processes import is_first
from mixup_jax.environment import FULL
from mixup_jax.errors import DiskFullError, InputError, require_choice
from mixup_jax.metrics.binning import Bins
from mixup_jax.runs.files import write_atomically
from mixup_jax.runs.workdir import METRICS_FILE
from mixup_jax.training.trackers import TRACKERS, Careful

NO_TENSORBOARD = (
    "TensorBoard events are off: they need TensorFlow and tensorboard (pip install 'mixup_jax[tensorflow]'); "
    f"everything is in {METRICS_FILE}"
)


class JsonLines:
    """One JSON object per line: `step` and the scalars.

    It contains no times, so that a run that was interrupted and resumed writes the same file as any other.
    """

    def __init__(self, path: Path, *, last_step: int, lines: int | None = None) -> None:
        """Opens the file and drops the lines written after the checkpoint to resume from: its steps are taken again.

        Lines of steps after `last_step`, the step of the checkpoint, are dropped, and so are lines after the first
        `lines`.  After an InputError the file is unchanged.
        """
        self._path = path
        text = _read(path)
        whole = [(number, line) for number, line in enumerate(text.splitlines(True), 1) if line.endswith("\n")]
        kept = [line for number, line in whole if _step_of(line, path, number) <= last_step][:lines]
        if "".join(kept) != text:
            write_atomically(path, "".join(kept).encode())
        self._count = len(kept)
        self._file = path.open("a", buffering=1)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends a line; raises InputError where it cannot be written, and ValueError for NaN and infinity."""
        line = json.dumps({"step": step, **scalars}, allow_nan=False) + "\n"
        try:
            self._file.write(line)
        except OSError as error:
            raise _not_written(self._path, error) from error
        self._count += 1

    def sync(self) -> int:
        """Waits until all lines would survive a power failure, and returns their number."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _not_written(self._path, error) from error
        return self._count

    def write_reliability(self, step: int, bins: Bins) -> None:
        """Does nothing: the line of the validation has the numbers that the diagram shows."""

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):  # a failed write has been reported already
            self._file.close()


MetricsLog = JsonLines | Careful
"""What takes scalars and reliability diagrams by the number of steps taken so far."""


def check_loggers(config: Config) -> None:
    """Raises InputError if a tracker that the config names is unknown or, unless it is TensorBoard, not installed."""
    for name in config.loggers:
        require_choice("loggers", name, TRACKERS)
        if name != "tensorboard" and not _installed(name):
            raise InputError(
                f'loggers names {name}, which is not installed; run: pip install "mixup_jax[{name}]", or leave it out'
            )


def _installed(name: str) -> bool:
    return all(importlib.util.find_spec(package) for package in TRACKERS[name][1])


@contextlib.contextmanager
def open_logs(
    config: Config, workdir: Path, *, last_step: int, report: Callable[[str], None], lines: int | None = None
) -> Iterator[list[MetricsLog]]:
    """Opens the logs of a run and closes them at the end of the block.

    In the first process they are `metrics.jsonl` and the trackers of `config.loggers`; other processes have none.

    If TensorBoard is wanted but not installed, `report` says so.  The checkpoint that training resumes from has `lines`
    lines of metrics.jsonl; None means all up to `last_step`.
    """
    if not is_first():
        yield []
        return
    logs: list[MetricsLog] = [JsonLines(workdir / METRICS_FILE, last_step=last_step, lines=lines)]
    try:
        for name in config.loggers:
            if name == "tensorboard" and not config.tensorboard:
                continue
            if _installed(name):
                logs.append(_opened(name, config, workdir, report))
            else:
                report(NO_TENSORBOARD)
        yield logs
    finally:
        for log in logs:
            log.close()


def _opened(name: str, config: Config, workdir: Path, report: Callable[[str], None]) -> Careful:
    try:
        return Careful(name, TRACKERS[name][0](config, workdir), report)
    except Exception as error:  # a library and a network may raise anything
        raise InputError(
            f"{name} cannot be started ({error}); expected one that can be reached, or to leave it out"
        ) from error


def _read(path: Path) -> str:
    """Returns the text of the file; bytes that are not UTF-8 are replaced, and their line is refused later."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected the file of earlier lines: move it away to continue "
            "without them"
        ) from error


def _not_written(path: Path, error: OSError) -> InputError:
    return (DiskFullError if error.errno in FULL else InputError)(
        f"{path} cannot be written ({error.strerror or error}); checkpoints that were saved before are intact: make "
        "room and start the command again"
    )


def _step_of(line: str, path: Path, number: int) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} line {number} is {line[:60].strip()!r}; expected a JSON object with a step: "
            "move the file away to continue without the earlier lines"
        ) from error
