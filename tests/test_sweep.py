"""Grids of runs: what they describe, what is skipped, and that one failure does not stop the others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixup_jax import grid, sweep
from mixup_jax.config import Config, to_dict
from mixup_jax.errors import InputError
from mixup_jax.grid import PlannedRun, load_grid, planned, planned_methods
from mixup_jax.runs.workdir import is_finished

ROOT = Path(__file__).parents[1]
QUICK = f"{ROOT / 'configs' / 'quickstart.py'}:mixup"
GRIDS = sorted((ROOT / "configs" / "grids").glob("*.py"))


def test_runs_of_a_grid_differ_in_their_seed_and_settings():
    runs = planned("alpha_0.4", QUICK, seeds=range(2), settings={"method.mixup_alpha": 0.4, "data.flip": True})
    assert [run.name for run in runs] == ["alpha_0.4-0", "alpha_0.4-1"]
    config = grid.config_of(runs[1])
    assert (config.seed, config.method.mixup_alpha, config.data.flip) == (1, 0.4, True)


def test_methods_of_a_config_come_seed_by_seed_under_the_name_of_their_network():
    config = str(ROOT / "configs" / "cifar10.py")
    runs = planned_methods(config, ("erm", "mixup"), network="vgg16", seeds=[3, 4], data__rotation=15.0)
    names = ["cifar10_vgg16_erm-3", "cifar10_vgg16_mixup-3", "cifar10_vgg16_erm-4", "cifar10_vgg16_mixup-4"]
    assert [run.name for run in runs] == names
    last = grid.config_of(runs[3])
    assert (last.model.name, last.method.mixup_alpha, last.seed, last.data.rotation) == ("vgg16", 0.2, 4, 15.0)
    assert last.experiment == "cifar10_vgg16/mixup"
    assert planned_methods(config, ["erm"], seeds=[0])[0].name == "cifar10_erm-0"


def test_a_tuple_reaches_the_config_as_it_is():
    run = PlannedRun("steps", QUICK, {"optimizer.step_epochs": (3, 5), "evaluation.ood": ("mnist",)})
    config = grid.config_of(run)
    assert config.optimizer.step_epochs == (3, 5)
    assert config.evaluation.ood == ("mnist",)
    several = PlannedRun("several", QUICK, {"evaluation.ood": ["mnist", "gaussian_noise"]})
    assert grid.config_of(several).evaluation.ood == ("mnist", "gaussian_noise")


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_grid_of_the_project_describes_runs_that_can_be_configured(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    for run in load_grid(path):
        config = grid.config_of(run)
        assert run.name.endswith(f"-{config.seed}")


@pytest.mark.parametrize("name", ["../up", "/abs", "", ".hidden", "a b", "a/b", "x" * 101, "con", "a."])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str):
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        PlannedRun(name, QUICK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no attribute 'get_grid'"),
        ("def get_grid(): return []", "expected a list of PlannedRun, not empty"),
        ("def get_grid(): return 1 / 0", "failed with ZeroDivisionError"),
        (
            "from mixup_jax.grid import PlannedRun\ndef get_grid(): return [PlannedRun('a', 'b')] * 2",
            "more than one run called a",
        ),
    ],
)
def test_a_grid_file_that_is_wrong_is_named(text: str, message: str, tmp_path: Path):
    path = tmp_path / "grid.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_grid(path)


def test_a_missing_grid_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        load_grid(tmp_path / "nothing.py")


def test_a_setting_that_does_not_exist_is_found_before_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "grid.py"
    path.write_text(
        "from mixup_jax.grid import planned\n"
        f"def get_grid(): return planned('a', {QUICK!r}, seeds=[0]) + "
        f"planned('b', {QUICK!r}, seeds=[0], settings={{'epoch': 3}})\n"
    )
    with pytest.raises(InputError, match=r"run b-0: .*epoch"):
        sweep.main([f"--grid={path}", f"--output={tmp_path / 'runs'}"])
    assert not (tmp_path / "runs").exists()


def finish(workdir: Path, config: Config, *, epoch: int | None = None) -> None:
    workdir.mkdir(parents=True)
    evaluation = {"step": 7, "config": json.loads(json.dumps(to_dict(config)))}
    (workdir / "evaluation.json").write_text(json.dumps(evaluation))
    (workdir / "metrics.jsonl").write_text(json.dumps({"step": 7, "epoch": epoch or config.epochs}) + "\n")


def test_a_run_is_finished_when_its_last_step_is_evaluated_under_this_config(tmp_path: Path):
    config = Config(epochs=3)
    assert not is_finished(tmp_path / "nothing", config)
    finish(tmp_path / "done", config)
    assert is_finished(tmp_path / "done", config)
    assert not is_finished(tmp_path / "done", Config(epochs=3, seed=1))
    finish(tmp_path / "half", config, epoch=2)
    assert not is_finished(tmp_path / "half", config)
    (tmp_path / "done" / "evaluation.json").write_text("{")
    assert not is_finished(tmp_path / "done", config)


def test_a_dry_run_prints_commands_and_states_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, output = tmp_path / "grid.py", tmp_path / "runs"
    path.write_text(
        f"from mixup_jax.grid import planned\ndef get_grid(): return planned('a', {QUICK!r}, seeds=[0, 1])\n"
    )
    finish(output / "a-0", grid.config_of(load_grid(path)[0]))
    assert sweep.main([f"--grid={path}", f"--output={output}", "--dry_run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "# a-0: finished"
    assert printed[3] == "# a-1: to run"
    assert printed[4] == f"python -m mixup_jax.main --config={QUICK} --workdir={output / 'a-1'} --config.seed=1"
    assert printed[5] == f"python -m mixup_jax.evaluate --workdir={output / 'a-1'}"
    assert not (output / "a-1").exists()


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def commands(run: PlannedRun, output: Path, data_dir: Path | None) -> list[list[str]]:
        code = "import sys; print('hello'); sys.exit(int(sys.argv[1]))"
        touch = f"open({str(output / run.name / 'evaluated')!r}, 'w')"
        return [[sys.executable, "-c", code, "3" if run.name == "b" else "0"], [sys.executable, "-c", touch]]

    monkeypatch.setattr(grid, "commands", commands)
    runs = [PlannedRun(name, QUICK) for name in "abc"]
    assert grid.run_all(runs, tmp_path, None, jobs=2) == ["b"]
    assert [(tmp_path / name / "evaluated").exists() for name in "abc"] == [True, False, True]
    assert (tmp_path / "a" / "log.txt").read_text() == "hello\n"


STOPPED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
from pathlib import Path
from mixup_jax import grid, sweep
from mixup_jax.command import run_command
from mixup_jax.grid import PlannedRun
child = '''
import signal, sys, time
from pathlib import Path
def save(*_):
    Path(sys.argv[1], "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
Path(sys.argv[1], "begun").touch()
time.sleep(60)
'''
grid.commands = lambda run, output, data_dir: [[sys.executable, "-c", child, str(output / run.name)]]
runs = [PlannedRun("first", "x"), PlannedRun("second", "x")]
sys.exit(run_command(lambda _: len(grid.run_all(runs, Path(sys.argv[1]), None, jobs=1)), []))
"""


def test_an_interruption_lets_the_run_under_way_save_and_starts_no_other(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "first" / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert (tmp_path / "first" / "saved").exists()
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("cores", "jobs", "shares"),
    [
        ([0, 1, 2, 3], 2, [{0, 1}, {2, 3}]),
        ([0, 1, 2], 2, [{0}, {1}]),
        ([0, 1], 3, [{0, 1}, {0, 1}, {0, 1}]),
        ([], 2, [set(), set()]),
    ],
)
def test_runs_side_by_side_share_the_cores(cores: list[int], jobs: int, shares: list[set[int]]):
    assert grid.core_shares(cores, jobs) == shares
