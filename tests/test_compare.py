"""Pages about anybody's logits: their names, their pairing, what they refuse, and the files of a paper."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from report_runs import make_run

import mixup_jax
from mixup_jax.compare import main
from mixup_jax.errors import InputError
from mixup_jax.evaluation.arrays import named
from mixup_jax.metrics.intervals import paired_bootstrap_differences
from mixup_jax.report.tables import PAPER_TABLES
from mixup_jax.runs.records import Predictions, save_predictions

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 4, 300)
HELD_OUT = RNG.integers(0, 4, 200)


def logits(sharpness, labels=LABELS, signal=2.0):
    return (sharpness * (signal * np.eye(4)[labels] + RNG.normal(0, 1, (len(labels), 4)))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("logits")
    for name, sharpness in (("soft", 1.0), ("sharp", 4.0)):
        np.savez(place / f"{name}.npz", logits=logits(sharpness), labels=LABELS)
        np.savez(place / f"{name}-val.npz", logits=logits(sharpness, HELD_OUT), labels=HELD_OUT)
        np.savez(place / f"{name}-noise.npz", logits=logits(sharpness, HELD_OUT, signal=0.0))
    np.savez(place / "other.npz", logits=logits(1.0, HELD_OUT), labels=HELD_OUT)
    return place


@pytest.fixture(scope="module")
def output(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("compared")
    foreign = [f"noise:{name}={folder / name}-noise.npz" for name in ("soft", "sharp")]
    main([
        str(folder / "soft.npz"), f"sharp={folder / 'sharp.npz'}", str(folder / "other.npz"),
        "--validation", f"sharp={folder / 'sharp-val.npz'}", "--ood", *foreign, f"--output={target}", "--style=paper",
    ])  # fmt: skip
    return target


def differences(output):
    with (output / "figures" / "differences.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_networks_have_the_names_and_the_numbers_of_their_files(folder, output):
    found = json.loads((output / "results.json").read_text())
    assert [group["name"] for group in found["groups"]] == ["soft", "sharp", "other"]
    with np.load(folder / "sharp.npz") as record:
        alone = mixup_jax.evaluate(record["logits"], record["labels"])["results"]["test"]
    for key in ("accuracy", "nll", "ece_15", "brier"):
        assert found["groups"][1]["metrics"][key]["mean"] == pytest.approx(alone[key], abs=1e-12)
    assert found["groups"][1]["metrics"]["temperature"]["mean"] > 1.5
    assert "temperature" not in found["groups"][0]["metrics"]
    assert found["groups"][0]["metrics"]["ood/noise/auroc"]["n"] == {"in": 300, "out": 200}


def test_differences_are_paired_where_labels_agree_and_refused_where_not(folder, output):
    rows = {(row["method"], row["metric"]): row for row in differences(output)}
    loaded = [dict(np.load(folder / f"{name}.npz")) for name in ("sharp", "soft")]
    confident = [mixup_jax.metrics.confidence_and_correct(one["logits"], one["labels"]) for one in loaded]
    expected = paired_bootstrap_differences(*confident[0], *confident[1], n_bins=(15, 100))["ece_15"]
    row = rows["sharp", "ece_15"]
    assert [float(row[key]) for key in ("difference", "interval_low", "interval_high")] == pytest.approx(
        [expected.difference, expected.low, expected.high], abs=1e-9
    )
    losses = [
        np.log(np.exp(one["logits"].astype(float)).sum(axis=1)) - one["logits"][np.arange(300), one["labels"]]
        for one in loaded
    ]
    nll = losses[0] - losses[1]
    reach = 1.959964 * nll.std(ddof=1) / 300**0.5
    row = rows["sharp", "nll"]
    assert [float(row["interval_low"]), float(row["interval_high"])] == pytest.approx(
        [nll.mean() - reach, nll.mean() + reach], abs=1e-5
    )
    assert rows["other", ""]["not_paired"] == "not paired: 200 examples instead of 300"
    page = (output / "index.html").read_text()
    assert "not paired: 200 examples instead of 300" in page
    assert "paired over 300 examples" in page
    assert "claims hold" not in page


def test_labels_in_another_order_are_not_paired(tmp_path):
    numbers = logits(1.0)
    page = mixup_jax.compare({"one": (numbers, LABELS), "turned": (numbers[::-1], LABELS[::-1])})
    found = page.files["figures/differences.csv"].decode()
    assert re.search(r"turned,,,,,\"not paired: \d+ of 300 labels differ, or their order\"", found)


def test_a_notebook_shows_the_page_in_a_frame_and_saves_it(tmp_path):
    page = mixup_jax.compare({"one <b>": (logits(1.0), LABELS)})
    shown = page._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<html" not in shown
    assert page.save(tmp_path / "page").read_bytes() == page.files["index.html"]
    assert page.results["groups"][0]["name"] == "one <b>"
    assert (tmp_path / "page" / "figures").is_dir()


def test_runs_and_files_stand_on_one_page(folder, tmp_path):
    run = make_run(tmp_path / "erm-0", n=200, ood=())
    main([str(run), str(folder / "soft.npz"), f"--output={tmp_path / 'out'}"])
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [group["name"] for group in found["groups"]] == ["quickstart/erm", "soft"]
    assert "1 run and 1 file" in (tmp_path / "out" / "index.html").read_text()
    assert differences(tmp_path / "out")[0]["not_paired"] == "not paired: 300 examples instead of 200"


def test_files_of_one_name_are_called_by_their_folders(tmp_path):
    assert named(["a/test.npz", "b/test.npz", "c/other.npz"], "x") == {
        "a/test": Path("a/test.npz"), "b/test": Path("b/test.npz"), "other": Path("c/other.npz")
    }  # fmt: skip
    odd = tmp_path / "a=b.npz"
    odd.touch()
    assert named([str(odd)], "x") == {"a=b": odd}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a=x.npz", "a=y.npz"], "two records called a: x.npz and y.npz; expected NAME=PATH"),
        (["{soft}", "--validation", "{sharp}"], "names no network; expected NAME=PATH"),
        (["{soft}", "--validation", "sharp={sharp}"], "validation names 'sharp', which is no network here"),
        (["{soft}", "--ood", "soft={sharp}"], "is not of the form SET:NAME=PATH"),
        (["{soft}", "--ood", "noise:vit={sharp}"], "ood noise names 'vit', which is no network here"),
        (["{soft}", "--validation", "soft={soft}"], "is the test record"),
        (["{soft}", "--probabilities", "--logits"], "expected one of them"),
        (["{soft}", "--jobs=0"], "expected at least 1"),
        (["{soft}", "--max_gib=0"], "expected a number above 0"),
        (["nowhere.npz"], "nowhere.npz does not exist"),
        (["gs://bucket/x.npz"], "gs://bucket/x.npz"),
        (["{soft}", "--style=poster"], "poster"),
    ],
)
def test_what_cannot_be_compared_is_named(folder, tmp_path, arguments, message):
    given = [text.format(soft=folder / "soft.npz", sharp=folder / "sharp.npz") for text in arguments]
    with pytest.raises(InputError, match=re.escape(message)):
        main([*given, f"--output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_no_network_is_refused():
    with pytest.raises(InputError, match="no network given"):
        mixup_jax.compare({})


def test_figures_of_a_paper_are_as_wide_as_a_column_and_have_their_fonts_and_data(output):
    figures = output / "figures"
    pdfs = sorted(figures.glob("*.pdf"))
    assert {path.stem for path in pdfs} == {path.stem for path in figures.glob("*.svg")}
    for path in pdfs:
        content = path.read_bytes()
        width = float(re.search(rb"/MediaBox \[ 0 0 ([0-9.]+) ", content)[1])
        assert width in (pytest.approx(3.25 * 72, abs=0.1), pytest.approx(6.75 * 72, abs=0.1))
        assert b"/FontFile2" in content  # TrueType, embedded
        assert b"/Type3" not in content
        assert b"/CreationDate" not in content
        assert path.with_suffix(".png").is_file()
        header, *rows = csv.reader(path.with_suffix(".csv").read_text().splitlines())
        assert len(rows) > 1
        assert all(len(row) == len(header) for row in rows)


def test_tables_of_a_paper_have_captions_labels_and_the_best_in_bold_with_its_ties(output):
    text = (output / "paper.tex").read_text()
    assert text.count(r"\begin{table*}[t]") == text.count(r"\end{table*}") == len(PAPER_TABLES) + 1
    assert re.findall(r"\\label{(.*)}", text) == ["tab:calibration", "tab:selective", "tab:ood-noise"]
    assert text.count(r"\caption{") == text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    for table in text.split(r"\begin{tabular}")[1:]:
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1
    found = json.loads((output / "results.json").read_text())["runs"]
    rows = dict(re.findall(r"^(soft|sharp|other) & (.*) \\\\$", text.split(r"\end{table*}")[0], re.MULTILINE))
    ece = {run["name"]: run["metrics"]["ece_15"] for run in found}
    best = min(ece, key=lambda name: ece[name]["value"])
    for name, row in rows.items():
        cell = row.split(" & ")[3]
        tied = ece[name]["interval"][0] <= ece[best]["interval"][1]
        assert cell == (rf"\textbf{{{ece[name]['value']:.4f}}}" if tied else f"{ece[name]['value']:.4f}")
    assert "validation" not in text


def test_records_of_the_package_are_compared_under_their_own_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        meta = {"dataset": "fm", "split": "test", "step": 1}
        save_predictions(f"{name}.npz", Predictions(logits(1.0), LABELS.astype(np.int32), meta))
    assert main(["a.npz", "b.npz", "--output=page"]) == 0
    assert (tmp_path / "page" / "index.html").is_file()
