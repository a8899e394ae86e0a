"""The published numbers are computed again from the records that lie beside them."""

import json
from pathlib import Path

import pytest

from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.report.evidence import written
from mixup_jax.runs.records import load_record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def test_the_tables_of_the_documents_are_those_of_the_records():
    """And with them every table.md; `python -m mixup_jax.report.evidence` on these documents writes them anew."""
    documents = [ROOT / name for name in ("README.md", "docs/results/README.md", "docs/reproduction.md")]
    files = dict(written(documents))
    assert {path.resolve() for path in files} >= {path.resolve() for path in RESULTS.glob("*/table.md")}
    for path, text in files.items():
        assert path.read_text() == text, path


@pytest.mark.parametrize("run", ["quickstart/erm-0", "outside/mixup-0"])
def test_an_evaluation_follows_from_its_records(run: str):
    records = {path.name.rsplit("-", 1)[0]: load_record(path) for path in (RESULTS / run / "predictions").iterdir()}
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


def test_the_readme_quotes_the_regime_where_mixup_harms():
    errors = [
        json.loads((RESULTS / "outside" / run / "evaluation.json").read_text())["results"]["fashion_mnist/test"][
            "ece_15"
        ]
        for run in ("mixup-0", "erm-0")
    ]
    assert "(ECE {:.3f} instead of {:.3f})".format(*errors) in (ROOT / "README.md").read_text()
