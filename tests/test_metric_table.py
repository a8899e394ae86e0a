"""The table of metrics: what each row promises, the pages written from it, and that a new row is enough."""

import json

import metric_pages
import numpy as np
import pytest
from report_runs import make_run, rewrite

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.export import format_table, render
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.metrics import table
from mixup_jax.metrics.measuring import Given, values
from mixup_jax.metrics.replicates import Resamples, sorted_run, with_bins
from mixup_jax.metrics.table import Bootstrap, Metric, Score
from mixup_jax.report.build import build_report
from mixup_jax.report.runs import load_run
from mixup_jax.runs.records import Predictions

ROWS = (*table.METRICS, *table.DETECTION)


def record(seed=0, n=200, classes=6):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, classes)) * 3).astype(np.float32)
    return Predictions(logits, (logits / 1.5 + rng.gumbel(size=logits.shape)).argmax(axis=1))


def given(records):
    examples = metrics.examine(records.logits, records.labels)
    return Given({**vars(examples), "logits": records.logits, "labels": records.labels})


def test_the_pages_are_what_the_table_says():
    assert metric_pages.METRICS_PAGE.read_text() == metric_pages.metrics_page(metric_pages.METRICS_PAGE.read_text())
    assert metric_pages.SCHEMA_PAGE.read_text() == metric_pages.schema_page()


def test_every_row_is_defined_under_a_heading_that_has_a_table():
    page = metric_pages.METRICS_PAGE.read_text()
    for row in ROWS:
        assert row.equation
        assert f"\n## {row.where}\n" in page
        assert page.count(f"| `{row.key}` | {row.label} |") == 1  # the table of coverage names the key again
    assert all(page.count(f"| `{score.key}` | {score.label} |") == 1 for score in table.SCORES)


def test_keys_are_unique_and_the_order_of_intervals_names_rows():
    keys = [row.key for row in ROWS]
    assert len(set(keys)) == len(keys)
    assert set(table.INTERVALS) <= set(keys)
    assert len({score.key for score in table.SCORES}) == len(table.SCORES)


@pytest.mark.parametrize("seed", range(3))
def test_every_number_is_within_its_limits(seed):
    found = values(given(record(seed, n=40)), table.METRICS)
    assert found.keys() == {row.key for row in table.METRICS}
    for row in table.METRICS:
        assert row.limits[0] <= found[row.key] <= row.limits[1]


@pytest.mark.parametrize("row", [row for row in table.METRICS if row.interval], ids=lambda row: row.key)
def test_what_an_interval_is_made_of_gives_the_metric_itself(row):
    known = given(record())
    number = known.number(row)
    if row.interval.replicates is not None:
        run = sorted_run(known.vectors["confidence"], known.vectors["correct"])
        once = Resamples(run, np.ones((1, run.n), np.int64))
        assert with_bins(row.interval.replicates, row.bins)(once)[0] == pytest.approx(number, abs=1e-8)
    elif row.interval.each is not None:
        assert np.mean(row.interval.each(*known.arguments(row))) == pytest.approx(number, abs=1e-12)
    else:
        assert row.interval.slow


def furthest_gap(confidence, correct):
    """A metric that is not there: the 90th percentile of abs(confidence - correct)."""
    return float(np.quantile(np.abs(confidence - correct), 0.9))


FURTHEST = Metric(
    "furthest_gap",
    "Furthest gap",
    furthest_gap,
    ("confidence", "correct"),
    "lower",
    "90th percentile of abs(confidence - correct)",
    interval=Bootstrap(),
)


def test_a_new_row_appears_everywhere_with_an_interval(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "METRICS", (*table.METRICS, FURTHEST))
    document = evaluate_records(record(), validation=record(1))
    entry = document["results"]["test"]
    confidence, correct = metrics.confidence_and_correct(record().logits, record().labels)
    assert entry["furthest_gap"] == furthest_gap(confidence, correct)
    low, high = entry["intervals"]["furthest_gap"]
    assert low < entry["furthest_gap"] < high
    assert "furthest_gap" in entry["after_temperature"]["intervals"]
    assert "Furthest gap" in format_table(document)
    for suffix, name in (("csv", "furthest_gap"), ("md", "Furthest gap"), ("tex", "Furthest gap")):
        assert name in render(document, tmp_path / f"x.{suffix}")

    folder = make_run(tmp_path / "run", n=100)
    build_report([folder], tmp_path / "page")
    for name in ("index.html", "table.md", "table.tex", "table.csv"):
        assert "Furthest gap" in (tmp_path / "page" / name).read_text()
    shown = json.loads((tmp_path / "page" / "results.json").read_text())["runs"][0]["metrics"]["furthest_gap"]
    assert shown["interval"] == load_run(folder).result["intervals"]["furthest_gap"]
    assert "| `furthest_gap` |" in metric_pages.schema_page()
    assert "| `furthest_gap` |" in metric_pages.metrics_page(metric_pages.METRICS_PAGE.read_text())

    def spoil(evaluation):
        evaluation["results"]["fashion_mnist/test"]["furthest_gap"] += 1e-6

    rewrite(folder / "evaluation.json", spoil)
    with pytest.raises(InputError, match=r"furthest_gap is 0\.\d+, but the records beside it give 0\."):
        load_run(folder)


def gap_of_means(score_in, score_out):
    return float(np.tanh(score_out.mean() - score_in.mean()))


GAP = Metric("gap", "Gap of means", gap_of_means, table.SETS, "higher", "gap", limits=(-1.0, 1.0), interval=Bootstrap())


def test_a_new_score_and_a_new_number_of_detection_appear_everywhere(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "DETECTION", (*table.DETECTION, GAP))
    monkeypatch.setattr(table, "SCORES", (*table.SCORES, Score("again", "entropy again", "", "entropy")))
    folder = make_run(tmp_path / "run", n=100, ood=("mnist",))
    entry = load_run(folder).evaluation["ood"]["mnist"]
    low, high = entry["intervals"]["gap"]
    assert low < entry["gap"] < high
    assert entry["scores"]["again"]["gap"] == entry["scores"]["entropy"]["gap"]
    build_report([folder], tmp_path / "page")
    for words in ("Gap of means", "AUROC by entropy again"):
        assert words in (tmp_path / "page" / "table.md").read_text()
    assert "| `gap` |" in metric_pages.schema_page()
    assert "`again`" in metric_pages.schema_page()
