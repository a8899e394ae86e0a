import threading
import time

import pytest

from mixup_jax.metrics import logits as reading
from mixup_jax.metrics.logits import in_threads, rows_of


@pytest.fixture(params=[1, 4])
def threads(request, monkeypatch):
    monkeypatch.setattr(reading.os, "cpu_count", lambda: request.param)
    return request.param


def test_results_come_in_the_order_of_the_parts(threads):
    def work(rows):
        time.sleep(0.001 * (rows.start % 3))
        return rows.start, threading.current_thread()

    found = in_threads(work, list(rows_of(100, 7)))
    assert [start for start, _ in found] == list(range(0, 100, 7))
    assert len({thread for _, thread in found}) <= threads
    assert in_threads(work, []) == []


def test_what_one_part_raises_is_raised_and_the_rest_is_left(threads):
    started = []

    def work(rows):
        started.append(rows.start)
        if rows.start == 3:
            raise ValueError("the fourth")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="the fourth"):
        in_threads(work, list(rows_of(100, 1)))
    assert len(started) <= 3 + threads


def test_every_row_is_in_one_part():
    for rows in (1, 3, 10, 11):
        assert [row for part in rows_of(10, rows) for row in range(10)[part]] == list(range(10))
