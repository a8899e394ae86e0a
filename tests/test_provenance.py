"""Records say which commit and which versions made them."""

import subprocess
from pathlib import Path

import jax
import pytest

from mixup_jax.runs.workdir import provenance

ROOT = Path(__file__).parents[1]


def test_a_checkout_names_its_commit_and_its_versions():
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    made_by = provenance()
    assert head.startswith(made_by["commit"].removesuffix("+changes"))
    assert len(made_by["commit"]) >= 12
    assert made_by["versions"]["jax"] == jax.__version__
