"""What a path may look like: commas and equals signs, `~`, and what it must not be."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mixup_jax
from mixup_jax.command import names, paths, run_command, split_at_commas
from mixup_jax.config_file import load_config
from mixup_jax.data.text import load_vectors
from mixup_jax.errors import InputError
from mixup_jax.evaluate import main
from mixup_jax.runs.records import Predictions, save_predictions


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home/p,q", "a", "a,b", "x=y"):
        Path(name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a,b"]),
        ("b,a", ["b", "a"]),
        ("a,b,a", ["a,b", "a"]),
        ("mnist,folder:a,b,svhn", ["mnist", "folder:a,b", "svhn"]),
        ("folder:~/p,q", ["folder:~/p,q"]),
        ("~/p,q", ["~/p,q"]),
        ("folder:p,q", ["folder:p", "q"]),
        ("x=y, a", ["x=y", "a"]),
        ("a,,b", ["a", "", "b"]),
        ("", [""]),
    ],
)
def test_commas_part_names_but_not_the_path_of_what_exists(text, parts, folder):
    assert split_at_commas(text) == parts


def test_lists_of_paths_and_of_sets_keep_such_paths(folder):
    assert paths("a,b,~/p,q") == (Path("a,b"), folder / "home/p,q")
    assert names("test,folder:a,b") == ("test", "folder:a,b")
    config = load_config("quickstart", ["--config.evaluation.ood=mnist,folder:a,b"])
    assert config.evaluation.ood == ("mnist", "folder:a,b")


def test_files_with_a_comma_or_an_equals_sign_are_evaluated(folder, capsys):
    record = Predictions(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 3)
    for name in ("c,d.npz", "x=y.npz"):
        save_predictions(name, record)
    assert main(["--predictions=c,d.npz,x=y.npz", "--output=e=1,2.json"]) == 0
    assert Path("e=1,2.json").is_file()


def test_a_file_that_is_named_after_another_has_only_printable_characters(folder, capsys):
    save_predictions(
        "a\u202eb\x1b[2J.npz", Predictions(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 3)
    )
    assert main(["--predictions=a\u202eb\x1b[2J.npz"]) == 0
    assert Path("a\\u202eb\\x1b[2J.evaluation.json").is_file()


def test_the_home_is_expanded_in_the_path_of_word_vectors(folder):
    Path("home/glove.txt").write_text("film 0.5 1\n")
    assert load_vectors("~/glove.txt", folder).words == ("film",)
    with pytest.raises(InputError, match=r"'gs://b/glove\.txt' is an address"):
        load_vectors("gs://b/glove.txt", folder)
    with pytest.raises(InputError, match="a,b' is a folder; expected"):
        load_vectors("a,b", folder)


def test_python_refuses_an_address_too(folder):
    with pytest.raises(InputError, match="is an address"):
        mixup_jax.evaluate("s3://bucket/test.npz")


def test_a_working_directory_that_is_deleted_is_named_in_one_line(folder):
    gone = folder / "gone"
    gone.mkdir()
    code = "import shutil, sys, mixup_jax.evaluate as e, mixup_jax.command as c, os; shutil.rmtree(os.getcwd()); "
    command = [sys.executable, "-c", code + "sys.exit(c.run_command(e.main, ['--predictions=test.npz']))"]
    ended = subprocess.run(command, cwd=gone, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: the working directory has been deleted; expected one that exists: cd to it again\n"


@pytest.mark.parametrize("width", ["100000000000000000000", "1000000"])
def test_a_width_that_no_memory_holds_leaves_the_folder_to_the_corrected_command(width, folder, data_dir, capsys):
    import mixup_jax.main

    arguments = ["--config=quickstart", "--workdir=new", f"--data_dir={data_dir}", f"--config.model.width={width}"]
    assert run_command(mixup_jax.main.main, arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not [path for path in Path("new").rglob("*") if path.is_file()]
    shutil.rmtree("new", ignore_errors=True)
