import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixup_jax.command import EXIT_BAD_INPUT, run_command
from mixup_jax.evaluate import main
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.runs.records import Predictions, load_record, save_predictions


def write(path, seed, n=60, classes=4, labelled=True, **meta):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, classes)) * 3).astype(np.float32)
    labels = (logits + rng.gumbel(size=logits.shape) * 2).argmax(axis=1) if labelled else np.full(n, -1)
    save_predictions(path, Predictions(logits, labels, meta))
    return path


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("preds.npz"), 0)
    write(Path("val.npz"), 1)
    write(Path("noise.npz"), 2, labelled=False)
    return tmp_path


def test_the_document_is_written_beside_the_file_and_the_table_printed(files, capsys):
    assert main(["--predictions=preds.npz"]) == 0
    document = json.loads((files / "preds.evaluation.json").read_text())
    assert document.pop("numbers") == {"taken_for": "logits", "stated": False}
    assert document == evaluate_records(load_record("preds.npz"), test_name="preds")
    printed = capsys.readouterr().out
    assert "preds: n = 60" in printed
    assert printed.count("No temperature was fitted") == 1
    assert "preds.evaluation.json" in printed


def test_validation_and_ood_records(files, capsys):
    (files / "sub").mkdir()
    write(Path("sub/noise.npz"), 3, labelled=False)
    write(Path("x.npz"), 4, labelled=False, dataset="kmnist", split="test")
    arguments = ["--predictions=preds.npz", "--validation=val.npz", "--output=out/e.json"]
    assert main([*arguments, "--ood=noise.npz", "--ood=sub/noise.npz", "--ood=x.npz"]) == 0
    document = json.loads((files / "out/e.json").read_text())
    assert document.pop("numbers") == {"taken_for": "logits", "stated": False}
    ood = {"noise": "noise.npz", "noise-2": "sub/noise.npz", "kmnist": "x.npz"}
    assert document == evaluate_records(
        load_record("preds.npz"),
        validation=load_record("val.npz"),
        ood={name: load_record(path) for name, path in ood.items()},
        test_name="preds",
        validation_name="val",
    )
    assert document["temperature_fitted_on"] == "val"
    assert "No temperature" not in capsys.readouterr().out
    assert not (files / "preds.evaluation.json").exists()


def test_files_of_the_same_name_in_two_folders(files):
    (files / "val").mkdir()
    write(Path("val/preds.npz"), 5)
    assert main(["--predictions=preds.npz", "--validation=val/preds.npz"]) == 0
    document = json.loads((files / "preds.evaluation.json").read_text())
    assert set(document["results"]) == {"preds", "preds (validation)"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one of --predictions, --scores, --workdir, --ensemble; found none of them"),
        (["--predictions=preds.npz", "--workdir=."], "found --predictions and --workdir"),
        (["--predictions=preds.npz", "--datasets=test"], "--datasets given without --workdir"),
        (["--predictions=preds.npz", "--checkpoint=last"], "--checkpoint given without --workdir"),
        (["--predictions=preds.npz", "--data_dir=."], "--data_dir given without --workdir"),
        (["--predictions=preds.npz", "--force"], "--force given without --workdir"),
        (["--workdir=.", "--ood=noise.npz"], "--ood given without --predictions"),
        (["--workdir=.", "--validation=val.npz"], "--validation given without --predictions"),
        (["--workdir=.", "--output=x.json"], "--output given without --predictions"),
        (["--workdir=absent"], "--workdir=absent is not a folder"),
        (
            ["--workdir=.", "--checkpoint=newest"],
            "--checkpoint=newest is not a checkpoint; expected last, best",
        ),
        (["--workdir=.", "--checkpoint=-1"], "--checkpoint=-1 is not a checkpoint"),
        (["--workdir=.", "--datasets=test,,mnist"], "argument --datasets: 'test,,mnist' holds an empty name"),
        (["--predictions=absent.npz"], "absent.npz does not exist"),
        (["--predictions=preds.npz", "--ood=absent.npz"], "absent.npz does not exist"),
        (["--predictions=preds.npz", "--validation=preds.npz"], "--validation=preds.npz is the test record itself"),
        (["--predictions=preds.npz", "--validation=copy.npz"], "validation record copy is the test record"),
        (["--predictions=preds.npz", "--ood=three.npz"], "record three has 3 classes; expected 4"),
        (["--predictions=noise.npz"], "record noise has no labels"),
        (["--predictions=preds.npz", "--output=preds.npz"], "--output=preds.npz is one of the records to read"),
        (["--predictions=preds.npz", "--output=val.npz/x.json"], "val.npz/x.json cannot be written"),
        (["--predictions=preds.npz", "--output=folder"], "--output=folder is a folder; expected a file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_loses_nothing(files, capsys, arguments, message):
    (files / "copy.npz").write_bytes((files / "preds.npz").read_bytes())
    write(Path("three.npz"), 0, classes=3)
    (files / "folder").mkdir()
    before = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
    assert run_command(main, arguments) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


def test_an_unknown_flag_ends_with_code_2(capsys):
    assert run_command(main, ["--prediction=preds.npz"]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.startswith(
        "error: unknown argument '--prediction' (did you mean '--predictions'?); choose one of: --all_intervals, "
    )


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for expected in ("--predictions=preds.npz", "--workdir=runs/", "--ood=", "--debug"):
        assert expected in printed


WATCHED = """
import sys
from mixup_jax.command import run_command
from mixup_jax.evaluate import main
code = run_command(main, ["--predictions=preds.npz", "--output=e.json"])
heavy = ("jax", "jaxlib", "tensorflow", "tensorflow_datasets", "flax", "orbax", "clu", "ml_collections")
heavy += ("sklearn", "matplotlib")
# numba looks for the BLAS of a scipy that is installed, and loads nothing else of it.
heavy += tuple("scipy." + part for part in ("optimize", "sparse", "special", "stats"))
print("LOADED", [name for name in heavy if name in sys.modules])
sys.exit(code)
"""


def test_the_command_loads_numpy_and_numba_only(files):
    # How quick that makes it, benchmarks/startup.py measures.
    write(Path("preds.npz"), 0, n=1000, classes=10)
    watched = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, timeout=60)
    assert (watched.returncode, watched.stderr) == (0, "")
    assert "LOADED []" in watched.stdout


def test_the_command_fails_in_one_line_and_debug_shows_the_traceback(files):
    command = [sys.executable, "-m", "mixup_jax.evaluate", "--predictions=absent.npz"]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert plain.returncode == EXIT_BAD_INPUT
    assert plain.stderr.count("\n") == 1
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, timeout=60)
    assert debug.returncode == EXIT_BAD_INPUT
    assert "Traceback" in debug.stderr


def test_a_path_with_a_comma_or_an_equals_sign_or_a_tilde_is_a_path(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    expected = evaluate_records(load_record("preds.npz"))["results"]["test"]
    for name in ("a,b.npz", "lr=0.1.npz"):
        (files / name).write_bytes((files / "preds.npz").read_bytes())
    for typed in ("a,b.npz", "lr=0.1.npz", "~/preds.npz"):
        assert main([f"--predictions={typed}", "--output=e.json"]) == 0
        (found,) = json.loads((files / "e.json").read_text())["results"].values()
        assert found == expected
