"""Ending a run early and in order: by SIGTERM, SIGINT, or the notice of a cluster.

A request is answered between two steps: the run saves a checkpoint and raises `Interrupted`.  Before
the first step is taken there is nothing to save, and the process ends at once; so it does at the
second signal, whatever it is doing, since a checkpoint appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: not finished, and the same command continues."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):  # noqa: N818, since nothing is wrong
    """A run was asked to end early, and has saved what it needs to continue."""


class Abandoned(BaseException):
    """What is being computed is not wanted any more; raised inside `Stop.abandonable` only."""


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
        """Returns whether the run is to end after `step` steps; with several processes, all agree on the step.

        To be asked after every step, from the first on: from then on requests wait to be asked for.
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

    A thread of its own receives the signals, because the main one may be compiling for minutes.
    With several processes SIGTERM is left to jax, whose coordinator tells all of them, and SIGINT is made one.
    """

    def __enter__(self) -> Signals:
        """Takes the signals over; only the main thread may."""
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._writable, False)
        self._wakeup = signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        mine = SIGNALS if jax.process_count() == 1 else (signal.SIGINT,)
        self._handlers = {number: signal.signal(number, self._handle) for number in mine}
        self._thread = threading.Thread(target=self._receive, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back."""
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
        """Answers what the main thread may be too busy to answer."""
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
