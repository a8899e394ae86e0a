"""Tables of documents are written from the records, and are those of the records."""

import pytest
from report_runs import make_run

from mixup_jax.errors import InputError
from mixup_jax.report.evidence import main
from mixup_jax.report.runs import load_run

DOCUMENT = "Before.\n<!-- methods runs: accuracy ood/mnist/auroc -->\nold\n<!-- end -->\nBetween.\n{more}After.\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("evidence")
    make_run(root / "runs" / "mixup-0", n=150, alpha=0.2)
    make_run(root / "runs" / "erm-0", n=150, seed=0)
    make_run(root / "runs" / "erm-1", n=150, seed=1)
    (root / "empty").mkdir()
    return root


def filled(place, more=""):
    document = place / "README.md"
    document.write_text(DOCUMENT.format(more=more))
    assert main([str(document)]) == 0
    return document.read_text()


def test_the_table_has_the_means_of_the_records_and_what_surrounds_it_stays(place, capsys):
    lines = filled(place).splitlines()
    accuracy = [load_run(place / "runs" / f"erm-{seed}").result["accuracy"] for seed in (0, 1)]
    spread = abs(accuracy[0] - accuracy[1]) / 2**0.5
    assert lines[:3] == [
        "Before.",
        "<!-- methods runs: accuracy ood/mnist/auroc -->",
        "| method | seeds | Accuracy | AUROC against mnist |",
    ]
    assert lines[4].startswith(f"| erm | 2 | {sum(accuracy) / 2:.3f} ± {spread:.3f} | ")
    assert lines[5].startswith("| mixup | 1 | ")
    assert lines[6:] == ["<!-- end -->", "Between.", "After."]
    assert (place / "runs" / "table.md").read_text().startswith("| number | n | quickstart/erm (2 seeds (0, 1)) |")


def test_what_is_up_to_date_is_left_and_what_is_not_is_told(place, capsys):
    filled(place)
    capsys.readouterr()
    document = place / "README.md"
    assert main([str(document), "--check"]) == 0
    assert capsys.readouterr().out == ""
    old = document.read_text().replace("± 0.", "± 1.")
    document.write_text(old)
    assert main([str(document), "--check"]) == 1
    assert capsys.readouterr().out == f"{document}\n"
    assert document.read_text() == old


def test_claims_are_those_of_the_verdict(place):
    assert "No verdict" in filled(place, "<!-- claims runs: other -->\n<!-- end -->\n")
    text = filled(place, "<!-- claims runs -->\n<!-- end -->\n")
    assert "| Better calibrated: lower ECE (15 bins) | " in text
    assert text.count("| as the paper says |") + text.count("| undecided |") + text.count("| contrary") == 9


def test_a_folder_without_runs_says_so(place):
    text = filled(place, "<!-- methods empty: accuracy -->\n<!-- end -->\n<!-- claims nowhere -->\n<!-- end -->\n")
    assert text.count("No records here yet.") == 2


@pytest.mark.parametrize(
    ("block", "message"), [("methods runs: acuracy", "accuracy"), ("method runs: accuracy", "methods")]
)
def test_unknown_names_are_refused_before_anything_is_written(place, block, message):
    document = place / "wrong.md"
    document.write_text(f"<!-- {block} -->\n<!-- end -->\n")
    with pytest.raises(InputError, match=message):
        main([str(document)])
    assert document.read_text() == f"<!-- {block} -->\n<!-- end -->\n"


def test_a_missing_document_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing.md does not exist"):
        main([str(tmp_path / "nothing.md")])


def test_the_state_of_an_experiment_is_that_of_its_files(place):
    (place / "made.py").write_text("")
    marks = [
        f"<!-- state {config} {folder} -->"
        for config, folder in (("made.py", "runs"), ("made.py", "empty"), ("no", "empty"))
    ]
    line = "| " + " | ".join(f"{mark}old<!-- end -->" for mark in marks) + " |\n"
    cells = filled(place, line).splitlines()[-2]
    told = ("[run here](runs), 3 runs", "ready to run", "no config yet")
    assert (
        cells == "| " + " | ".join(f"{mark}{words}<!-- end -->" for mark, words in zip(marks, told, strict=True)) + " |"
    )
