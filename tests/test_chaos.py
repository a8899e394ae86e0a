"""Killed at random moments and started again, a run ends with the bits of one that was left alone."""

import signal
from pathlib import Path

import pytest

from benchmarks import chaos

pytestmark = pytest.mark.xdist_group("chaos")


def test_twenty_kills_at_random_moments_change_nothing(tmp_path: Path):
    tally = chaos.chaos(tmp_path, 20, seed=3, modes=("small-jit", "small-pmap"))
    assert sum(tally.kills.values()) == 20
    assert tally.runs >= 2
    assert tally.differences == []
    assert sum(count for (name, _), count in tally.kills.items() if name == signal.SIGKILL.name) >= 10
