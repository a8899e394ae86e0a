"""The published numbers are computed again from the records that lie beside them."""

import json
import re
from pathlib import Path

import pytest

from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.records import load_predictions
from mixup_jax.report.groups import make_groups
from mixup_jax.report.quantities import ood_names, sections
from mixup_jax.report.runs import load_runs
from mixup_jax.report.tables import markdown_table

RESULTS = Path(__file__).parents[1] / "docs" / "results"


@pytest.mark.parametrize("regime", ["quickstart", "outside"])
def test_the_published_tables_are_those_of_the_records(regime: str):
    runs = load_runs(sorted(path.parent for path in (RESULTS / regime).glob("*/evaluation.json")))
    assert markdown_table(make_groups(runs), sections(ood_names(runs))) == (RESULTS / regime / "table.md").read_text()


@pytest.mark.parametrize("run", ["quickstart/erm-0", "outside/mixup-0"])
def test_an_evaluation_follows_from_its_records(run: str):
    records = {
        path.name.rsplit("-", 1)[0]: load_predictions(path) for path in (RESULTS / run / "predictions").iterdir()
    }
    stored = json.loads((RESULTS / run / "evaluation.json").read_text())
    again = evaluate_records(
        records["fashion_mnist-test"],
        validation=records["fashion_mnist-validation"],
        ood={name: records[f"{name}-test"] for name in stored["ood"]},
    )
    for part in ("results", "ood"):
        for name, numbers in stored[part].items():
            plain = {key: value for key, value in numbers.items() if isinstance(value, int | float)}
            assert {key: again[part][name][key] for key in plain} == pytest.approx(plain, abs=1e-9)


def test_the_summary_quotes_the_tables():
    text = (RESULTS / "README.md").read_text()
    for regime, row in (("quickstart", "ECE, 15 bins"), ("quickstart", "Accuracy"), ("outside", "ECE, 15 bins")):
        line = next(
            line for line in (RESULTS / regime / "table.md").read_text().splitlines() if line.startswith(f"| {row} ")
        )
        for mean in re.findall(r"\| (0\.\d{4})", line):
            assert f"| {float(mean):.3f}" in text
