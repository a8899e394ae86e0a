import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mixup_jax.__main__ import main as mixup_jax_main
from mixup_jax.command import run_command
from mixup_jax.config import Config, to_dict
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.main import main
from mixup_jax.methods.method import VARIANTS

ROOT = Path(__file__).parents[1]


def config_keys() -> list[str]:
    groups = {key: value if isinstance(value, dict) else {"": None} for key, value in to_dict(Config()).items()}
    return [f"{group}.{key}".rstrip(".") for group, keys in groups.items() for key in keys]


PACKAGE = Path(__file__).parents[1] / "mixup_jax"
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"--config={QUICKSTART}:mixpu"], "error: unknown config variant 'mixpu' (did you mean 'mixup'?)"),
        ([f"--config={QUICKSTART}", "--config.sed=1"], "error: unknown config key 'sed' (did you mean 'seed'?)"),
        ([f"--config={QUICKSTART}", "--config.data.name=cifar"], "error: unknown data set 'cifar'"),
        ([f"--config={QUICKSTART}", "--config.model.name=vgg"], "error: unknown model 'vgg'"),
        ([f"--config={QUICKSTART}", "--config.method.mixup_alpha=-1"], "error: method.mixup_alpha is -1.0"),
        ([f"--config={QUICKSTART}", "--data_dir=/nonexistent"], "error: data set 'fashion_mnist' is not prepared"),
        (["--config=missing.py"], "error: config file missing.py does not exist"),
        (["--config="], "error: --config is empty; expected --config=FILE[:VARIANT]"),
        (["--config=a.py", "--config=b.py"], "error: --config is given twice; expected it once"),
        (["--confg=a.py"], "error: unknown argument '--confg' (did you mean '--config'?)"),
        ([], "error: the following arguments are required: --config (see python -m mixup_jax.main --help)"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run_command(main, [*arguments, f"--workdir={tmp_path / 'run'}"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert not out
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(main, ["--debug", "--config=missing.py", f"--workdir={tmp_path}"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_other_exceptions_are_defects_and_pass():
    def broken(_: object) -> int:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run_command(broken, [])


def test_ctrl_c_is_exit_code_130():
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    assert run_command(interrupted, []) == 130


@pytest.mark.parametrize(("reader", "code"), [("| exec true", 141), (">&-", 0)])
def test_output_that_nobody_reads_leads_to_no_traceback(tmp_path: Path, reader: str, code: int):
    (tmp_path / "p.csv").write_text("p_0,p_1,label\n0.9,0.1,0\n0.2,0.8,0\n")
    words = "-m mixup_jax.evaluate --predictions=p.csv --probabilities"
    command = f"{sys.executable} {words} {reader}; exit ${{PIPESTATUS[0]}}"
    known = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=known, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")


def test_help_is_quick_and_shows_a_command_to_copy():
    script = (
        "import sys\n"
        "from mixup_jax.main import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        "    assert not {'jax', 'tensorflow'} & set(sys.modules), 'help must not wait for them'\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--config=configs/quickstart.py:mixup" in answer.stdout


def test_an_unknown_name_points_at_the_nearest():
    error = unknown_name("fruit", "aple", ["apple", "pear"])
    assert isinstance(error, InputError)
    assert str(error) == "unknown fruit 'aple' (did you mean 'apple'?); choose one of: apple, pear"


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("sed", ["seed"]),
        ("method.alpha", ["method.mixup_alpha"]),
        ("lr", ["optimizer.learning_rate"]),
        ("data.nam", ["data.name"]),
        ("decay", ["optimizer.weight_decay", "optimizer.decay_norm_and_bias"]),
        ("clip_norm", ["optimizer.clip_norm", "model.norm"]),
        ("lookahead", []),
        ("ema", ["optimizer.ema"]),
        ("pretrained", []),
        ("model.pretrained", []),
    ],
)
def test_only_keys_that_are_near_are_suggested(name: str, suggested: list[str]):
    message = str(unknown_name("config key", name, config_keys(), "docs/configuration.md"))
    assert re.findall("'([a-z_.]+)'", message) == [name, *suggested]
    assert message.endswith(f"; see docs/configuration.md for all {len(config_keys())}")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        importlib.import_module(f"mixup_jax.{command}").main(["--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["main", "sweep", "report.__main__", "compile_ahead"])
def test_help_names_every_method(command: str, capsys: pytest.CaptureFixture[str]):
    assert set(VARIANTS) <= set(re.findall("[a-z_]+", help_of(command, capsys)))


DOORS = {
    *(path.stem for path in PACKAGE.glob("*.py") if "run_command(main)" in path.read_text()),
    *(f"{path.parent.name}.{path.stem}" for path in PACKAGE.glob("*/*.py") if "run_command(main)" in path.read_text()),
}


def test_the_package_as_a_command_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert mixup_jax_main([]) == mixup_jax_main(["--help"]) == 0
    listed = re.findall(r"^  python -m mixup_jax\.([\w.]+) ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(set(listed)) == sorted(door.removesuffix(".__main__") for door in DOORS)
    with pytest.raises(InputError, match="unknown command 'train'"):
        mixup_jax_main(["train"])


@pytest.mark.parametrize("command", sorted(DOORS))
def test_every_help_has_commands_to_copy(command: str, capsys: pytest.CaptureFixture[str]):
    name = command.removesuffix(".__main__")
    assert len(re.findall(rf"^  python -m mixup_jax\.{name} ", help_of(command, capsys), re.MULTILINE)) >= 2
