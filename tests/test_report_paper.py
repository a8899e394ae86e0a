"""The paper's figures and tables: their numbers against brute force, and that a section is there when runs allow it."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import make_run, rewrite
from scipy import stats

from mixup_jax import figures
from mixup_jax.errors import InputError
from mixup_jax.figures.epochs import CELLS, density_rows
from mixup_jax.metrics.binning import Bins, bin_confidences
from mixup_jax.report.figure import FigurePlan, csv_bytes
from mixup_jax.report.figure_table import plan_figures
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import make_groups, pooled_bins, soft_label_families
from mixup_jax.report.runs import load_run, load_runs
from mixup_jax.report.small_tables import AUROC, auroc_table, name_in_paper, printed_auroc, text_table
from mixup_jax.runs.records import Predictions, load_record, save_predictions

EPOCHS = (0, 2, 10)
PAPER = ("epochs", "scatter", "soft-labels", "foreign", "text", "training")


def outcomes(seed, n=300):
    rng = np.random.default_rng(seed)
    confidence = np.append(rng.beta(5, 2, n), [0.0, 1.0, 0.2])
    return confidence, rng.random(n + 3) < confidence


def brute_force_density(confidence, correct, cells):
    """Cell by cell, with SciPy's distribution function of the beta distribution."""
    density = np.zeros((cells, cells))
    for i in range(cells):
        inside = [
            c for p, c in zip(confidence, correct, strict=True) if i / cells < p <= (i + 1) / cells or (p == 0 == i)
        ]
        posterior = stats.beta(sum(inside) + 1, len(inside) - sum(inside) + 1)
        for j in range(cells):
            density[i, j] = len(inside) / len(confidence) * (posterior.cdf((j + 1) / cells) - posterior.cdf(j / cells))
    return density


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.integers(1, 400), st.integers(1, 12))
def test_the_density_is_that_of_every_cell_by_itself(seed, n, cells):
    confidence, correct = outcomes(seed, n)
    found = figures.joint_density([(confidence, correct)], cells)
    np.testing.assert_allclose(found, brute_force_density(confidence, correct, cells), atol=2e-4)
    assert found.sum() == pytest.approx(1, abs=1e-12)


def test_every_seed_counts_the_same_in_the_density():
    one, other = outcomes(0, 50), outcomes(1, 500)
    both = figures.joint_density([one, other])
    np.testing.assert_allclose(both, (figures.joint_density([one]) + figures.joint_density([other])) / 2)
    np.testing.assert_allclose(figures.joint_density([one, one]), figures.joint_density([one]))


def test_panels_are_the_epochs_and_their_crosses_the_means():
    by_epoch = {16: [outcomes(0), outcomes(1)], 0: [outcomes(2)]}
    figure = figures.density_over_epochs(by_epoch)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().partition("\n")[0] for axes in panels] == ["before training", "epoch 16"]
    for axes, epoch in zip(panels, (0, 16), strict=True):
        (cross,) = [line for line in axes.lines if line.get_gid()]
        expected = [np.mean([np.mean(values[k]) for values in by_epoch[epoch]]) for k in (0, 1)]
        assert [cross.get_xdata()[0], cross.get_ydata()[0]] == pytest.approx(expected)


def test_the_shaded_cells_hold_what_their_shade_says():
    density = figures.joint_density([outcomes(3)])
    (axes,) = [one for one in figures.density_over_epochs({1: [outcomes(3)]}).axes if one.get_visible()]
    drawn = sum(len(patch.get_path().vertices) // 5 for patch in axes.patches)
    assert drawn == np.count_nonzero(density >= 0.0003)
    darkest = axes.patches[-1].get_path().vertices
    left, bottom = darkest[0]
    assert density[round(left * CELLS), round(bottom * CELLS)] >= 0.01


def test_the_file_of_the_density_adds_up():
    rows = density_rows({0: [outcomes(0)], 3: [outcomes(1)]})
    for epoch in (0, 3):
        assert sum(row[-1] for row in rows if row[0] == epoch) == pytest.approx(1, abs=1e-3)


def test_points_are_the_bins_and_their_areas_the_shares():
    confidence, correct = outcomes(4)
    axes = figures.bin_scatter({"mine": bin_confidences(confidence, correct, 10)})
    (points,) = axes.collections
    expected = []
    for m in range(10):
        inside = [k for k, p in enumerate(confidence) if m / 10 < p <= (m + 1) / 10 or p == 0 == m]
        if inside:
            expected.append((np.mean(confidence[inside]), np.mean(correct[inside]), len(inside) / len(confidence)))
    np.testing.assert_allclose(points.get_offsets(), [one[:2] for one in expected])
    large = [share for *_, share in expected if share > 0.06]
    areas = sorted(points.get_sizes())[-len(large) :]
    np.testing.assert_allclose(areas, sorted(300 * share for share in large))


def test_lines_over_the_epochs_are_means_at_the_epochs_of_all_seeds():
    seeds = [[(1, 0.5), (2, 0.4), (4, 0.1)], [(2, 0.2), (4, 0.3), (5, 9.0)]]
    axes = figures.over_epochs({"mine": seeds})
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xdata(), [2, 4])
    np.testing.assert_allclose(line.get_ydata(), [0.3, 0.2])
    (band,) = axes.collections
    ys = band.get_paths()[0].vertices[:, 1]
    assert (ys.min(), ys.max()) == (0.1, 0.4)


def test_winning_scores_are_counted():
    one, other = np.array([0.2, 0.21, 1.0, 0.05]), np.array([0.2, 0.2])
    (stairs,) = figures.winning_scores({"mine": [one, other]}).patches
    shares = np.zeros(20)
    shares[0], shares[3], shares[4], shares[19] = 1 / 8, 1 / 8 + 1 / 2, 1 / 8, 1 / 8
    np.testing.assert_allclose(stairs.get_data().values, shares)


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.joint_density([]),
        lambda: figures.joint_density([(np.zeros(0), np.zeros(0, bool))]),
        lambda: figures.joint_density([(np.array([1.5]), np.array([True]))]),
        lambda: figures.density_over_epochs({}),
        lambda: figures.bin_scatter({"mine": Bins.empty(5)}),
        lambda: figures.bin_scatter({}),
        lambda: figures.over_epochs({"mine": [[(1, 0.5)], [(2, 0.5)]]}),
        lambda: figures.over_epochs({"mine": []}),
        lambda: figures.winning_scores({"mine": []}),
    ],
)
def test_figures_of_nothing_are_refused(call):
    with pytest.raises(InputError, match="expected"):
        call()


def keep_epochs(folder):
    """Gives a run the records of epochs, and what a real run logs of its validations."""
    validation = load_record(next((folder / "predictions").glob("*-validation-*.npz")))
    for epoch in EPOCHS:
        logits = validation.logits * (epoch + 1) / 11
        save_predictions(folder / "epochs" / f"{epoch}.npz", Predictions(logits, validation.labels, {"epoch": epoch}))
    with (folder / "metrics.jsonl").open("a") as log:
        for epoch in EPOCHS[1:]:
            scores = {"validation_confidence": 0.8 + epoch / 100, "validation_ece_15": 0.01 * epoch}
            log.write(json.dumps({"step": 39 * epoch, "epoch": epoch, **scores}) + "\n")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    made = {
        "erm-0": make_run(root / "erm-0", n=200, seed=0),
        "erm-1": make_run(root / "erm-1", n=200, seed=1),
        "mixup-0": make_run(root / "mixup-0", n=200, alpha=0.2),
        "only-0": make_run(root / "only-0", n=200, alpha=0.2, method={"mix_labels": False}, experiment="features"),
        "mr-0": make_run(root / "mr-0", n=200, data={"name": "mr"}, ood=()),
        "stl-0": make_run(
            root / "stl-0", n=200, alpha=0.2, data={"name": "stl10"}, ood=("gaussian_noise", "imagenet_not_stl10")
        ),
    }
    for name in ("erm-0", "erm-1", "mixup-0"):
        keep_epochs(made[name])
    return made


def sections_from(folders):
    """The plans of the paper's figures, and its tables, by their parts of the page."""
    groups = make_groups(load_runs(folders))
    filters = Filters(groups)
    tables = {"foreign": auroc_table(groups, filters), "text": text_table(groups, filters)}
    found = {name: [table] for name, table in tables.items() if table is not None}
    for section, plan in plan_figures(groups, filters):
        if section in PAPER:
            found.setdefault(section, []).append(plan)
    return found


def data_of(plan):
    drawn = plan.draw()
    return rows_of(csv_bytes(drawn.columns, drawn.rows))


@pytest.fixture(scope="module")
def sections_of(folders):
    return cache(lambda *names: sections_from([folders[name] for name in names]))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["erm-0"], {"epochs", "scatter", "training", "foreign"}),
        (["only-0"], {"scatter", "foreign"}),
        (["mr-0"], {"scatter", "text"}),
        (["only-0", "erm-0", "erm-1"], {"epochs", "scatter", "training", "foreign", "soft-labels"}),
        (["mixup-0", "erm-0"], {"epochs", "scatter", "training", "foreign"}),
    ],
)
def test_sections_are_there_when_the_runs_allow_them(sections_of, names, expected):
    assert set(sections_of(*names)) == expected


def test_a_group_shows_the_epochs_that_all_of_its_seeds_have(folders, tmp_path):
    copy = shutil.copytree(folders["erm-1"], tmp_path / "erm-1")
    (copy / "epochs" / "2.npz").unlink()
    sections = sections_from([folders["erm-0"], copy, folders["mixup-0"]])
    rows = {plan.heading: data_of(plan) for plan in sections["epochs"]}
    assert {row["epoch"] for row in rows["quickstart/erm"]} == {"0", "10"}
    assert {row["epoch"] for row in rows["quickstart/mixup"]} == {"0", "2", "10"}


def test_a_seed_without_records_of_epochs_is_left_out_of_them(folders, tmp_path):
    copy = shutil.copytree(folders["erm-1"], tmp_path / "erm-1")
    shutil.rmtree(copy / "epochs")
    both, alone = (
        sections_from([*runs, folders["mixup-0"]]) for runs in ([folders["erm-0"], copy], [folders["erm-0"]])
    )
    rows = [
        {plan.heading: data_of(plan) for plan in sections["epochs"]}["quickstart/erm"] for sections in (both, alone)
    ]
    assert rows[0] == rows[1]


def rows_of(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_points_are_those_of_all_seeds_beside_the_baseline(folders, sections_of):
    sections = sections_of("erm-0", "erm-1", "mixup-0")
    (plan,) = sections["scatter"]
    assert plan.heading == "quickstart/mixup"
    rows = data_of(plan)
    assert list(dict.fromkeys(row["group"] for row in rows)) == ["quickstart/erm", "quickstart/mixup"]
    runs = [load_run(folders[name]) for name in ("erm-0", "erm-1")]
    confidence, correct = (np.concatenate(parts) for parts in zip(*(run.outcomes() for run in runs), strict=True))
    pooled = bin_confidences(confidence, correct, 15)
    assert [float(row["accuracy"]) for row in rows if row["group"] == "quickstart/erm"] == pytest.approx(
        list(pooled.accuracy[pooled.count > 0])
    )
    assert pooled_bins(make_groups(runs)[0], 15).n == 400


def test_soft_labels_compare_runs_that_differ_in_mixing_alone(folders, tmp_path):
    other = shutil.copytree(folders["mixup-0"], tmp_path / "other")
    for name in ("config.json", "evaluation.json"):
        rewrite(other / name, lambda value: value.get("config", value)["model"].update(width=3))
    wide = make_groups(load_runs([folders["only-0"], folders["mixup-0"], other, folders["erm-0"]]))
    (family,) = soft_label_families(wide)
    assert {group.first.folder.name for group in family} == {"only-0", "mixup-0", "erm-0"}
    assert soft_label_families(make_groups(load_runs([folders["mixup-0"], folders["erm-0"]]))) == []


def test_the_papers_numbers_stand_beside_the_same_data_sets_and_nowhere_else(folders, sections_of):
    (table, *_) = sections_of("stl-0", "erm-0")["foreign"]
    printed = {(cells[0], cells[1]): cells[-1] for _, cells in table.rows}
    stl = {pair.partition(" → ")[2]: text for (_, pair), text in printed.items() if pair.startswith("stl10")}
    assert stl == {"gaussian_noise": "0.9593", "imagenet_not_stl10": "0.8328"}
    assert {text for (_, pair), text in printed.items() if not pair.startswith("stl10")} == {"\N{EN DASH}"}
    (alone, *_) = sections_of("erm-0", "erm-1")["foreign"]
    assert "The paper" in table.header  # and not where no run can be held against the paper
    assert "The paper" not in alone.header
    assert {len(cells) for _, cells in alone.rows} == {len(alone.header)}
    numbers = {(row["method"], row["data_sets"]): row for row in rows_of(table.csv)}
    run = load_run(folders["erm-0"])
    row = numbers["quickstart/erm, after temperature scaling", "fashion_mnist → mnist"]
    assert float(row["auroc_mean"]) == run.evaluation["ood"]["mnist"]["after_temperature"]["auroc"]
    assert printed_auroc(load_run(folders["stl-0"]), "mnist") is None
    assert all(0.5 < value < 1 for by_set in AUROC.values() for value in by_set.values())


def test_winning_scores_of_the_baseline_come_scaled_as_well(sections_of):
    sections = sections_of("erm-0", "erm-1", "mixup-0")
    _, *plans = sections["foreign"]
    shown = {plan.heading: data_of(plan) for plan in plans}
    assert set(shown) == {"mnist", "gaussian_noise"}
    names = list(dict.fromkeys(row["method"] for row in shown["mnist"]))
    assert names == ["quickstart/erm", "quickstart/erm + temp. scaling", "quickstart/mixup"]
    for name in names:
        assert sum(float(row["share"]) for row in shown["mnist"] if row["method"] == name) == pytest.approx(1)


def test_the_table_of_text_has_the_numbers_of_the_evaluation(folders, sections_of):
    (table,) = sections_of("mr-0", "erm-0")["text"]
    (row,) = rows_of(table.csv)
    result = load_run(folders["mr-0"]).result
    assert float(row["ece_100_mean"]) == result["ece_100"]
    assert float(row["noise_floor/ece_100/mean_mean"]) == result["noise_floor"]["ece_100"]["mean"]
    assert row["data_set"] == "MR"


def test_figures_say_their_numbers_in_words(sections_of):
    sections = sections_of("only-0", "erm-0", "erm-1")
    plans = [one for found in sections.values() for one in found if isinstance(one, FigurePlan)]
    assert len(plans) >= len(PAPER)
    for drawn in (plan.draw() for plan in plans):
        assert re.search(r"\d\.\d{4}", drawn.alt)
        assert not drawn.rows or len(drawn.rows) > 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.rename(path.with_name("last.npz")), "number of an epoch"),
        (lambda path: path.rename(path.with_name("3.npz")), "after epoch 2"),
        (lambda path: path.write_bytes(b"no record"), "2.npz"),
        (lambda path: save_predictions(path, Predictions(np.zeros((3, 10), np.float32), np.zeros(3, int))), "labels"),
    ],
)
def test_records_of_epochs_that_do_not_fit_are_refused(folders, tmp_path, spoil, message):
    copy = shutil.copytree(folders["erm-0"], tmp_path / "run")
    spoil(copy / "epochs" / "2.npz")
    with pytest.raises(InputError, match=message):
        load_run(copy)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "Mixup"),
        ({"method": {"mixup_alpha": 0.0}}, "Baseline"),
        ({"method": {"mixup_alpha": 0.0}, "model": {"dropout": 0.3}}, None),
        ({"method": {"mixup_alpha": 0.0}, "model": {"dropout": 0.3}, "derived": {"mc_dropout": 10}}, "Dropout"),
        ({"derived": {"ensemble": 3}}, None),
        ({"model": {"dropout": 0.3}}, None),
        ({"method": {"mixup_alpha": 0.0, "label_smoothing": 0.1}}, None),
    ],
)
def test_a_run_has_the_row_of_the_papers_table_that_is_its_method(folders, changes, name):
    run = load_run(folders["mixup-0"])
    config = dict(run.recorded)
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value}
    assert name_in_paper(replace(run, recorded=config)) == name
