"""Probabilities are not taken for logits, in any record and any disguise, nor logits for probabilities."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.special

import mixup_jax
from mixup_jax.command import EXIT_BAD_INPUT, run_command
from mixup_jax.errors import InputError
from mixup_jax.evaluate import main
from mixup_jax.evaluation.checks import LOGITS, PERCENTAGES, PROBABILITIES, SIGMOIDS, look_of
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.records import Predictions


def logits_of(seed, n=400, classes=5, size=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return size * (np.eye(classes)[labels] + rng.normal(size=(n, classes))), labels


def softmax(logits):
    return scipy.special.softmax(logits, axis=1)


def one_odd_row(rows):
    rows = rows.copy()
    rows[7] = np.arange(rows.shape[1]) - 2.5
    return rows


def binned_gap(probability, labels):
    """ECE with 15 bins, by its definition."""
    confidence, correct = probability.max(axis=1), probability.argmax(axis=1) == labels
    cells = np.ceil(confidence * 15).astype(int)
    gaps = [abs(correct[cells == cell].mean() - confidence[cells == cell].mean()) for cell in set(cells)]
    return np.average(gaps, weights=[(cells == cell).sum() for cell in set(cells)])


DISGUISES = {
    "as they are": (softmax, PROBABILITIES),
    "float16": (lambda z: softmax(z).astype(np.float16), PROBABILITIES),
    "three decimals": (lambda z: softmax(z).round(3), PROBABILITIES),
    "two decimals": (lambda z: softmax(z).round(2), PROBABILITIES),
    "one odd row": (lambda z: one_odd_row(softmax(z)), PROBABILITIES),
    "one odd row in three decimals": (lambda z: one_odd_row(softmax(z).round(3)), PROBABILITIES),
    "half of the rows": (lambda z: np.concatenate([z[:200], softmax(z[200:])]), PROBABILITIES),
    "decisions": (lambda z: np.eye(z.shape[1])[z.argmax(axis=1)], PROBABILITIES),
    "percent": (lambda z: 100 * softmax(z), PERCENTAGES),
    "whole percent": (lambda z: (100 * softmax(z)).round(), PERCENTAGES),
    "percent with an odd row": (lambda z: one_odd_row(100 * softmax(z)), PERCENTAGES),
    "sigmoids": (scipy.special.expit, SIGMOIDS),
    "sigmoids with an odd row": (lambda z: one_odd_row(scipy.special.expit(z)), SIGMOIDS),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("test", "validation", "far")):
        logits, labels = logits_of(seed)
        np.savez(f"{name}.npz", logits=logits, labels=labels)
    return tmp_path


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("classes", [2, 5, 100])
def test_what_rows_look_like(disguise, classes):
    change, kind = DISGUISES[disguise]
    assert look_of(change(logits_of(0, classes=classes)[0]).astype(np.float32)).kind == kind


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("size", [0.01, 0.3, 1.0, 10.0, 100.0])
def test_logits_are_logits(classes, size):
    for seed in range(5):
        logits, _ = logits_of(seed, classes=classes, size=size)
        assert look_of(logits).kind == LOGITS
        assert look_of((logits / size).round(1)).kind == LOGITS
        assert look_of(scipy.special.log_softmax(logits, axis=1)).kind == LOGITS
        assert look_of(np.maximum(logits / size * 20, 0)).kind == LOGITS
    assert look_of(np.zeros((9, classes))).kind == LOGITS


def test_a_large_record_is_judged_by_rows_from_all_of_it():
    rows = np.concatenate([np.full((70_000, 2), [3.0, -3.0]), np.full((30_000, 2), 0.5)])
    assert look_of(rows).kind == PROBABILITIES


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize(
    "arguments",
    [
        ["--predictions=p.npz"],
        ["--predictions=test.npz", "--validation=p.npz"],
        ["--predictions=test.npz", "--ood=far.npz", "--ood=p.npz"],
        ["--predictions=test.npz,p.npz"],
        ["--predictions=p.npz", "--ood=far.npz"],
    ],
)
def test_each_record_is_judged(folder, capsys, disguise, arguments):
    change, kind = DISGUISES[disguise]
    logits, labels = logits_of(5)
    np.savez(
        "p.npz", logits=change(logits), labels=np.load("test.npz")["labels"] if "test.npz,p" in arguments[0] else labels
    )
    before = set(folder.iterdir())
    assert run_command(main, arguments) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert f"p.npz looks like {kind}" in error
    mixed = len(arguments) > 1 or "," in arguments[0]
    assert ("expected numbers of one kind" if mixed else "--logits") in error
    assert error.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_the_numbers_are_right_once_it_is_said_what_they_are(folder, capsys):
    logits, labels = logits_of(3)
    probability = softmax(logits)
    np.savez("p.npz", logits=probability, labels=labels)
    for flag, meant in (("probabilities", probability), ("logits", softmax(probability))):
        assert main(["--predictions=p.npz", f"--{flag}"]) == 0
        document = json.loads(Path("p.evaluation.json").read_text())
        assert document["numbers"] == {"taken_for": flag, "stated": True}
        assert document["results"]["p"]["ece_15"] == pytest.approx(binned_gap(meant, labels), abs=1e-12)
        right = -np.log(meant[np.arange(len(labels)), labels]).mean()
        assert document["results"]["p"]["nll"] == pytest.approx(right, rel=1e-9)
    assert main(["--predictions=test.npz"]) == 0
    assert json.loads(Path("test.evaluation.json").read_text())["numbers"] == {"taken_for": "logits", "stated": False}


def test_saying_logits_does_not_mix_kinds(folder, capsys):
    logits, labels = logits_of(3)
    np.savez("p.npz", logits=softmax(logits), labels=labels)
    for arguments in (["--predictions=test.npz", "--validation=p.npz"], ["--predictions=p.npz", "--ood=test.npz"]):
        assert run_command(main, [*arguments, "--logits"]) == EXIT_BAD_INPUT
        assert "expected numbers of one kind" in capsys.readouterr().err
        assert run_command(main, [*arguments, "--probabilities"]) == EXIT_BAD_INPUT
        assert "test.npz: row 0 of probabilities holds a number outside [0, 1]" in capsys.readouterr().err
    np.savez("s.npz", logits=scipy.special.expit(logits), labels=labels)  # as a network that ends in ReLU may give
    assert main(["--predictions=test.npz", "--ood=s.npz", "--logits"]) == 0


def test_python_judges_as_the_command_does(folder):
    logits, labels = logits_of(3)
    other, far = logits_of(4), logits_of(5)[0]
    probability = softmax(logits)
    for given in ((probability, labels), (Predictions(probability, labels), None)):
        with pytest.raises(InputError, match=r"^test looks like probabilities .* expected probabilities=True, or prob"):
            mixup_jax.evaluate(*given)
    with pytest.raises(InputError, match=r"^validation looks like probabilities .* test like logits"):
        mixup_jax.evaluate(logits, labels, validation=(softmax(other[0]), other[1]))
    with pytest.raises(InputError, match=r"^ood\['far'\] looks like percentages .* test like logits"):
        mixup_jax.evaluate(logits, labels, ood={"far": 100 * softmax(far)})
    with pytest.raises(InputError, match="percentages: divide them by 100"):
        mixup_jax.evaluate(100 * probability, labels, probabilities=True)
    np.savez("p.npz", logits=probability, labels=labels)
    said = mixup_jax.evaluate(probability, labels, probabilities=True)
    assert said["numbers"] == {"taken_for": "probabilities", "stated": True}
    assert said["results"]["test"]["ece_15"] == pytest.approx(binned_gap(probability, labels), abs=1e-12)
    for record in (Predictions(probability, labels), load_predictions("p.npz", probabilities=True), "p.npz"):
        assert mixup_jax.evaluate(record, probabilities=True) == said
    with pytest.raises(InputError, match="row 0 of probabilities"):
        mixup_jax.evaluate(Predictions(logits, labels), probabilities=True)
    denied = mixup_jax.evaluate(probability, labels, probabilities=False)
    assert denied["numbers"] == {"taken_for": "logits", "stated": True}
    assert denied["results"]["test"]["ece_15"] == pytest.approx(binned_gap(softmax(probability), labels), abs=1e-12)
