"""The league's runs are those of the settled grid but for the method; its numbers are chosen by held-out examples."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixup_jax.grid import load_grid
from mixup_jax.metrics import table
from mixup_jax.runs.files import write_json
from mixup_jax.runs.records import Predictions, save_predictions
from mixup_jax.runs.workdir import record_path
from studies.league import choose, page, scores
from studies.settled.answers import signed

GRIDS = Path(__file__).parents[1] / "configs" / "grids"


def grid(chosen: Path) -> Any:
    """The grid file as a module that reads its choice from another place."""
    spec = importlib.util.spec_from_file_location("league_grid", GRIDS / "league.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.CHOSEN = chosen
    return module


def test_runs_differ_from_erms_in_their_method_and_follow_once_there_is_a_choice(tmp_path: Path):
    league = grid(tmp_path / "chosen.json")
    first = league.get_grid()
    assert len(first) == sum(map(len, league.CANDIDATES.values())) == 18
    chosen = {method: list(labels)[-1] for method, labels in league.CANDIDATES.items()}
    (tmp_path / "chosen.json").write_text(json.dumps({"chosen": chosen}))
    runs = league.get_grid()
    assert runs[:18] == first
    assert len(runs) == len({run.name for run in runs}) == 18 + 9 * 5
    settled = {run.name: run.settings for run in load_grid(GRIDS / "settled.py")}
    for run in runs:
        size, seed = run.settings["data.train_examples"], run.settings["seed"]
        erm = settled[f"images_{size}_plain_alpha_0-{seed}"]
        same = {key: value for key, value in run.settings.items() if not key.startswith("method.")}
        expected = {key: value for key, value in erm.items() if not key.startswith("method.")}
        assert same | {"experiment": ""} == expected | {"experiment": ""}


def kept(folder: Path, noise: float) -> Path:
    """The records of a network whose logits have some noise."""
    generator = np.random.default_rng(0)
    sets = {"fashion_mnist/test": 300, "fashion_mnist/validation": 300, "mnist/test": 50, "gaussian_noise/test": 50}
    for name, rows in sets.items():
        labels = generator.integers(0, 10, rows, dtype=np.int32)
        logits = (3 * np.eye(10)[labels] + generator.normal(0, noise, (rows, 10))).astype(np.float32)
        dataset, split = name.split("/")
        save_predictions(
            record_path(folder, name, 7), Predictions(logits, labels, {"dataset": dataset, "split": split})
        )
    write_json(folder / "config.json", {})
    return folder


def test_what_is_chosen_has_the_lowest_nll_after_temperature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = {"mbls": {"poor": kept(tmp_path / "a", 2.0), "good": kept(tmp_path / "b", 0.5)}}
    monkeypatch.setattr(choose, "candidates", lambda: found)
    monkeypatch.setattr(choose, "FOLDER", tmp_path)
    assert choose.main() == 0
    assert [path.name for path in (tmp_path / "a").rglob("*.npz")] == ["fashion_mnist-validation-7.npz"]
    assert len(list((tmp_path / "b").rglob("*.npz"))) == 4
    stored = json.loads((tmp_path / "chosen.json").read_text())
    assert stored["chosen"] == {"mbls": "good"}
    found["mbls"]["later"] = tmp_path / "c"
    (tmp_path / "chosen.json").unlink()
    assert choose.main() == 1
    assert not (tmp_path / "chosen.json").exists()


def test_the_table_has_the_best_first_and_pairs_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder in ("FOLDER", "SETTLED"):
        monkeypatch.setattr(choose, folder, tmp_path)
    for seed in range(3):
        kept(tmp_path / f"images_2500_plain_alpha_0-{seed}", 1.0 + 0.1 * seed)
        kept(tmp_path / f"images_2500_plain_mbls_margin_5-{seed}", 0.5)
    cells = page.league(2500, {"mixup": "alpha_1", "mbls": "margin_5"})
    rows = [line.split(" | ")[0] for line in page.table(page.by_nll(cells), page.COLUMNS).splitlines()[2:]]
    assert rows == ["| mbls", "| erm", "| mixup"]
    assert page.spread([]) in page.table(page.by_nll(cells), page.COLUMNS).splitlines()[-1]
    mean = np.mean([cells["mbls"][seed]["nll_t"] - cells["erm"][seed]["nll_t"] for seed in range(3)])
    assert signed(float(mean)) in page.against(cells, "erm")
    assert "mixup at 2,500 images (3 of 3 seeds)" in page.state({2500: cells})
    drawn = page.picture({2500: cells}).decode()
    assert drawn.index("<!-- erm -->") < drawn.index("<!-- mbls -->")  # the lowest is drawn last, on top
    told = page.in_short(2500, cells)
    assert "lowest with mbls, erm, mixup; ERM has place 2 and mixup place 3 of 3" in told
    decided = [one.verdict != "undecided" for column in page.differences(cells, "erm").values() for one in column]
    assert f"Of 6 differences to these two {sum(decided)} are decided" in told


def test_the_score_of_features_is_chosen_by_the_set_that_is_in_no_table(monkeypatch: pytest.MonkeyPatch):
    poor, good = "knn", page.COMMON

    def aurocs(seed: int) -> scores.Aurocs:
        foreign = {"mnist": {poor: 0.9, good: 0.6 + 0.1 * seed}, "gaussian_noise": {poor: 0.9, good: 0.5}}
        known = foreign | {scores.TUNING: {poor: 0.7, good: 0.8}}
        return {name: dict.fromkeys(scores.OF_FEATURES, 0.0) | values for name, values in known.items()}

    scored = {f"images_2500_plain_mbls_margin_5-{seed}": aurocs(seed) for seed in (0, 2)}
    lines = page.by_features(2500, {"mixup": "alpha_1", "mbls": "margin_5"}, scored).splitlines()[2:]
    label = next(score.label for score in table.SCORES if score.key == good)
    assert lines == [f"| mbls | 2 | {label} |{2 * ' 0.700 ± 0.141 | 0.500 ± 0.000 |'}"]


def test_runs_are_scored_once_and_those_without_a_checkpoint_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scores, "FOLDER", tmp_path)
    write_json(tmp_path / "chosen.json", {"chosen": {"mixup": "alpha_1", "mbls": "margin_5"}})
    runs, asked = tmp_path / "runs", []
    for name in ("2500_plain_alpha_0-0", "10000_plain_mbls_margin_5-2", "2500_plain_mbls_margin_10-1"):
        (runs / f"images_{name}" / "checkpoints").mkdir(parents=True)
    (runs / "images_2500_plain_alpha_1-0").mkdir()
    monkeypatch.setattr(scores, "aurocs", lambda run: asked.append(run.name) or {"mnist": {"knn": 0.5}})
    for _ in range(2):
        assert scores.main([str(runs)]) == 0
    assert sorted(asked) == ["images_10000_plain_mbls_margin_5-2", "images_2500_plain_alpha_0-0"]
    assert sorted(json.loads((tmp_path / scores.FILE).read_text())) == sorted(asked)
