"""The page of the check against PyTorch: its interval, and what its design says next."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mixup_jax.runs.records import Predictions, save_predictions
from studies import independent_page as page


def sides(seeds: int, difference: float, noise: float) -> page.Sides:
    """Accuracies of both sides whose mixup differs by so much."""
    steps = noise * np.linspace(-1, 1, seeds)
    found: page.Sides = {}
    for side in (page.OURS, "torch"):
        for method in page.METHODS:
            more = difference if (side, method) == ("package", "mixup") else 0.0
            scale = 2 if method == "mixup" else 1
            found[side, method] = {i: {"accuracy": 0.87 + more + scale * step} for i, step in enumerate(steps)}
    return found


def test_the_interval_is_welchs():
    rng = np.random.default_rng(3)
    ours, theirs = list(rng.normal(0.88, 0.004, 5)), list(rng.normal(0.87, 0.008, 10))
    mean, low, high = page.welch(ours, theirs)
    parts = [np.var(one, ddof=1) / len(one) for one in (ours, theirs)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (ours, theirs), strict=True))
    reach = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    assert (low, high) == pytest.approx((mean - reach, mean + reach))


@pytest.mark.parametrize(
    ("seeds", "difference", "noise", "said"),
    [
        (5, 0.0, 0.001, "chance"),
        (5, 0.0, 0.02, "wider than ±0.005: the design adds seeds"),
        (5, 0.02, 0.001, "excludes 0: the design adds seeds"),
        (10, 0.02, 0.001, "switches"),
        (10, 0.0, 0.02, "by the design it was chance"),
    ],
)
def test_the_design_says_what_comes_next(seeds: int, difference: float, noise: float, said: str):
    assert said in page.answer(sides(seeds, difference, noise))


def test_a_record_keeps_what_the_page_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page, "FOLDER", tmp_path / "kept")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500, dtype=np.int32)
    for name, seed in ((name, seed) for name in page.METHODS.values() for seed in range(2)):
        logits = (2 * np.eye(10)[labels] + rng.normal(0, 1, (500, 10))).astype(np.float32)
        file = tmp_path / f"{name}-{seed}" / "test.npz"
        file.parent.mkdir()
        save_predictions(file, Predictions(logits, labels, {"dataset": "fashion_mnist", "split": "test"}))
    page.keep(tmp_path / "none", tmp_path)
    found = page.load()
    assert {seed for seeds in found.values() for seed in seeds} == {0, 1}
    assert found["torch", "mixup"][1]["accuracy"] == np.mean(logits.argmax(axis=1) == labels)
    assert not [side for side, _ in found if side != "torch"]


def test_a_switch_explains_the_calibration_only_if_its_interval_excludes_the_whole_difference():
    eces = {page.OURS: 0.066, "torch": 0.049, "init": 0.049, "last": 0.0655}
    found = {(side, "erm"): {i: {"ece": ece + 1e-3 * i} for i in range(5)} for side, ece in eces.items()}
    of_init, of_last = page.calibration(found).split("Less ")[1:]
    assert page.WORDS["remains"] in of_init
    assert page.WORDS["explains"] in of_last
    found["init", "erm"] = {i: {"ece": 0.02 + 0.06 * i} for i in range(2)}
    del found["last", "erm"]
    assert page.calibration(found).endswith(f"{page.WORDS['open']}.")
