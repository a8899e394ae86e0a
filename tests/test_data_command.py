import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mixup_jax.command import run_command
from mixup_jax.data import __main__ as command
from mixup_jax.data.cache import arrays_folder, write_cache
from mixup_jax.data.catalog import DATASETS
from mixup_jax.data.sets import ExampleSet
from mixup_jax.errors import InputError


@pytest.fixture
def prepared(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(30, dtype=np.int32) % 10
    write_cache(arrays_folder(tmp_path, "mnist"), {"test": ExampleSet(images, labels, "thirty digits")})
    return tmp_path


def run(*argv):
    return run_command(command.main, [str(argument) for argument in argv])


def test_a_prepared_set_is_described(prepared, capsys):
    assert run("mnist", f"--data_dir={prepared}") == 0
    out = capsys.readouterr().out
    assert "already prepared" in out
    assert "source: thirty digits" in out
    assert "test: 30 images of 28x28x1, 10 classes of 3 each" in out
    assert f"folder: {arrays_folder(prepared, 'mnist')}" in out
    assert "mean 0.5" in out
    with Image.open(arrays_folder(prepared, "mnist") / "test-contact-sheet.png") as sheet:
        assert sheet.size == (300, 300)


def test_default_folder_is_read_from_the_environment(prepared, capsys, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert run("mnist") == 0
    assert "thirty digits" in capsys.readouterr().out


def test_an_already_prepared_set_needs_neither_tensorflow_nor_tfds(prepared):
    code = (
        "import sys; from mixup_jax.data.__main__ import main\n"
        f"assert main(['mnist', '--data_dir={prepared}']) == 0\n"
        "assert not {'tensorflow', 'tensorflow_datasets', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_unknown_name_is_refused_before_anything_is_prepared(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "prepare", lambda *_, **__: pytest.fail("began to prepare"))
    assert run("mnist", "fashion_mnits", f"--data_dir={tmp_path}") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: unknown data set 'fashion_mnits' (did you mean 'fashion_mnist'?)")
    assert "Traceback" not in err


def test_failure_to_prepare_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch):
    def fail(name, data_dir, report):
        raise InputError(f"{name} cannot be downloaded")

    monkeypatch.setattr(command, "prepare", fail)
    assert run("mnist", f"--data_dir={tmp_path}") == 2
    assert capsys.readouterr().err == "error: mnist cannot be downloaded\n"
    assert run("mnist", f"--data_dir={tmp_path}", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_no_name_is_a_usage_error(capsys):
    assert run() == 2
    assert "fashion_mnist, mnist" in capsys.readouterr().err


def test_list_names_every_set(capsys):
    assert run("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [*DATASETS, "glove_6b_50d"]


def test_help_documents_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    out = capsys.readouterr().out
    for option in ("--data_dir", "--list", "--debug", "NAME"):
        assert option in out


@pytest.mark.parametrize(
    ("config", "needs"),
    [
        ("configs/fashion_mnist.py", ["fashion_mnist", "mnist"]),
        ("configs/mr.py:erm", ["glove", "mr", "amazon_snippets", "nyt_snippets", "tweets"]),
    ],
)
def test_what_a_config_needs_is_prepared(config, needs, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(command, "prepare", lambda name, *_, **__: taken.append(name))
    monkeypatch.setattr(command, "prepare_glove", lambda *_: taken.append("glove"))
    monkeypatch.setattr(command, "describe", lambda *_: [])
    assert run(f"--config={config}", f"--data_dir={tmp_path}") == 0
    assert taken == needs
    assert run(f"--config={config}", "--config.evaluation.ood=gaussian_noise", f"--data_dir={tmp_path}") == 0
    assert taken[len(needs) :] == [name for name in needs[:2] if name != "mnist"]
    assert run("--config.seed=1") == 2
