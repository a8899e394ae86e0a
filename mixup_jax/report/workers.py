"""Doing independent pieces of work one after the other, or in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Task = Callable[[], T]
"""A piece of work; to be done by another process it must be picklable, such as a `partial` of a module's function."""


class RunAll(Protocol):
    """Does all pieces of work and returns what they return, in their order."""

    def __call__(self, tasks: Sequence[Task[T]]) -> list[T]:
        """Does the work."""
        ...


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serially(tasks: Sequence[Task[T]]) -> list[T]:
    """Does the pieces of work one after the other."""
    return [task() for task in tasks]


@contextmanager
def workers(processes: int) -> Iterator[RunAll]:
    """Gives a function that does pieces of work in so many processes, or in this one if it is 1.

    The processes are new ones, not copies of this one, which may hold threads.
    """
    if processes == 1:
        yield serially
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run_all(tasks: Sequence[Task[T]]) -> list[T]:
            return list(pool.map(_do, tasks))

        yield run_all


def _do(task: Task[Any]) -> Any:
    return task()
