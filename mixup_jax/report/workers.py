"""Runs independent tasks one after another, or in several processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Task = Callable[[], T]
"""A task; for another process it must be picklable, such as a `partial` of a module's function."""


class RunAll(Protocol):
    """Runs all tasks and returns their results in order."""

    def __call__(self, tasks: Sequence[Task[T]]) -> list[T]:
        """Runs the tasks."""
        ...


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serially(tasks: Sequence[Task[T]]) -> list[T]:
    """Runs the tasks one after another."""
    return [task() for task in tasks]


@contextmanager
def workers(processes: int) -> Iterator[RunAll]:
    """Gives a function that runs tasks in this number of processes, or in this process if it is 1.

    The processes are started anew, not forked, because this one may have threads.
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
