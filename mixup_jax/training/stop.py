"""Ending a run early with a checkpoint, and the lock of a run's folder.

SIGTERM, SIGINT or a cluster's preemption notice asks the run to end.  After the current step, the run saves a
checkpoint and raises `Interrupted`.  Before the first step there is nothing to save, and the process ends at once.
It also ends at once at the second signal; this is safe, because a checkpoint appears complete or not at all.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import jax
from jax.experimental import multihost_utils

from mixup_jax.devices.processes import is_first
from mixup_jax.errors import InputError

EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: the run is not finished, and the same command resumes it."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)

LOCK_FILE = "lock"
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""The errors that file systems without locks raise."""


class Interrupted(Exception):  # noqa: N818, since nothing is wrong
    """Raised by a run that was asked to end early, after it has saved what it needs to continue."""


class Abandoned(BaseException):
    """Raised inside `Stop.abandonable` only: the result of the block is no longer wanted."""


class Stop:
    """A request to end a run, made by `request`."""

    def __init__(self) -> None:
        self._requested = False
        self._abandonable = False
        self._listening = False

    def request(self) -> None:
        """Asks the run to end; must be called from the thread that trains."""
        self._requested = True
        if self._abandonable:
            raise Abandoned

    @property
    def pending(self) -> bool:
        """Whether this process was asked to end."""
        return self._requested

    def requested(self, step: int) -> bool:
        """Returns whether the run is to end after `step` steps; all processes of a run agree on the step.

        Must be called after every step.  Before the first call, a signal ends the process at once.
        """
        self._listening = True
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._requested

    @contextlib.contextmanager
    def abandonable(self) -> Iterator[None]:
        """In this block, which must change nothing, a request raises `Abandoned` at once."""
        self._abandonable = True
        try:
            if self._requested:
                raise Abandoned
            yield
        finally:
            self._abandonable = False


class Signals(Stop):
    """The first SIGTERM or SIGINT is a request; the second ends the process.  A context manager.

    A separate thread receives the signals, because the main thread may be compiling for minutes.
    In a run of several processes, jax handles SIGTERM and its coordinator tells all processes; SIGINT becomes SIGTERM.
    """

    def __enter__(self) -> Signals:
        """Installs the handlers; only the main thread may."""
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._writable, False)
        self._wakeup = signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        mine = SIGNALS if jax.process_count() == 1 else (signal.SIGINT,)
        self._handlers = {number: signal.signal(number, self._handle) for number in mine}
        self._thread = threading.Thread(target=self._receive, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writable)
        self._thread.join()
        os.close(self._readable)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.request()

    def _receive(self) -> None:
        """Reads the signals that arrive, and ends the process where it cannot wait for the main thread."""
        received = 0
        while number := os.read(self._readable, 1):
            if number[0] not in self._handlers:
                continue
            received += 1
            name = signal.Signals(number[0]).name
            if received > 1:
                _leave(f"interrupted by a second {name}: the last checkpoint is as it was; the same command continues")
            if not self._listening:
                _leave(f"interrupted by {name} before the first step; the same command starts again")
            print(f"{name}: finishing the step, then saving; a second one ends at once", file=sys.stderr, flush=True)


def _leave(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    os._exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def locked(workdir: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a folder during the block, in the first process, so that only one run uses a folder.

    The operating system releases the lock when the process ends, however it ends, so no stale lock can remain.
    The file remains, and says which process held the lock last.

    If the file system does not support locks, `report` says so, and the run continues without one.

    Raises:
      InputError: another process holds the lock (the message says which, where and since when), or its file cannot be
        opened.
    """
    if not is_first():
        yield
        return
    path = workdir / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror}); expected a writable file, by which a run keeps its folder to "
            "itself: delete it if no run goes on there"
        ) from error
    try:
        _take_lock(descriptor, path, report)
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int, path: Path, report: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "a process that has just started"
        raise InputError(
            f"workdir {path.parent} is in use by {holder} ({path}); expected one run in a folder at a time: "
            "wait for it or end it, or choose another --workdir"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        report(f"{path.parent} is on a file system without locks ({error}); take care that no other run writes there")
