"""The page on the paper's methods: its runs are known by their names, and pairs are of one seed."""

from pathlib import Path

import pytest

from studies import closer
from studies.settled.answers import signed


def test_names_tell_the_method_and_the_seed():
    assert closer.method_and_seed("fashion_mnist_label_smoothing-1") == ("label_smoothing", 1)
    assert closer.method_and_seed("fashion_mnist_dropout-0+mc10") == ("dropout+mc10", 0)


def test_differences_are_of_the_seeds_that_both_have():
    keys = [*closer.CALIBRATION, *closer.FOREIGN]
    erm = {seed: dict.fromkeys(keys, 0.25 * seed) for seed in (0, 1)}
    mixup = {1: dict.fromkeys(keys, 0.5), 2: dict.fromkeys(keys, 0.5)}
    *_, line = closer.against_erm({"erm": erm, "mixup": mixup, "erl": {}}).splitlines()
    assert line.split(" | ")[:2] == ["| mixup", signed(0.25)]


def test_a_page_without_runs_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(closer, "FOLDER", tmp_path)
    assert closer.main([]) == 0
    written = (tmp_path / "README.md").read_text()
    assert "**Not yet run: erm (2 of 2), mixup (2 of 2), label\\_smoothing" in written
    assert "mc10 (" not in written
