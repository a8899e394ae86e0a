import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from mixup_jax.errors import InputError
from mixup_jax.evaluation.export import render
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.runs.records import Predictions


def document(name="a_b"):
    rng = np.random.default_rng(0)
    records = [Predictions(rng.normal(size=(40, 3)), rng.integers(0, 3, 40)) for _ in range(3)]
    return evaluate_records(records[0], validation=records[1], ood={"no|ise": records[2]}, test_name=name)


def test_json_is_the_document_itself():
    for name in ("x.json", "x"):
        assert json.loads(render(document(), Path(name))) == document()


def test_csv_has_every_number_unrounded():
    rows = list(csv.DictReader(io.StringIO(render(document(), Path("x.csv")))))
    found = {(r["part"], r["record"], r["state"], r["metric"]): r for r in rows}
    assert len(found) == len(rows)
    results, ood = document()["results"]["a_b"], document()["ood"]["no|ise"]
    ece = found["results", "a_b", "raw", "ece_15"]
    assert [float(ece[key]) for key in ("value", "low", "high")] == [results["ece_15"], *results["intervals"]["ece_15"]]
    after = found["results", "a_b", "temperature", "noise_floor/ece_15/p95"]
    assert float(after["value"]) == results["after_temperature"]["noise_floor"]["ece_15"]["p95"]
    energy = found["ood", "no|ise", "raw", "scores/energy/auroc"]
    assert float(energy["value"]) == ood["scores"]["energy"]["auroc"]
    assert float(energy["low"]) == ood["scores"]["energy"]["intervals"]["auroc"][0]


def test_markdown_rows_have_as_many_cells_as_the_header():
    text = render(document(), Path("x.md"))
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert r"no\|ise" in text
    assert f"{document()['results']['a_b']['ece_15']:.4f}" in text


def test_latex_rows_have_as_many_cells_as_columns_and_names_are_escaped():
    text = render(document("a_b%"), Path("x.tex"))
    assert r"a\_b\%" in text
    # of the test record and the foreign set; a paper's tables do not mix in what the temperature was fitted on
    assert text.count(r"\begin{table}") == text.count(r"\end{tabular}") == 2
    assert "fitted here" not in text
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [2, 2, 2]
    for block in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(l?r*)\}", block)[1])
        lines = [line for line in block.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {columns}


def test_an_unknown_suffix_is_refused():
    with pytest.raises(InputError, match=r"unknown format of results '.tx' \(did you mean '.tex'\?\)"):
        render(document(), Path("x.tx"))
