"""A grid through a real Ray on this machine: what is killed is resumed, what is refused is not tried again."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from error_cases import ray_sweep

from mixup_jax.errors import InputError
from mixup_jax.grid import commands, load_grid
from mixup_jax.store.verify import inspect, steps_in

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "launch" / "sweep.py"
GRID = f"""
from mixup_jax.grid import planned
SETTINGS = {{
    "epochs": 16, "batch_size": 40, "log_every_steps": 5, "tensorboard": False,
    "data.train_examples": 160, "data.validation_examples": 40,
    "model.width": 2, "method.group_size": 5,
    "evaluation.every_epochs": 2, "evaluation.batch_size": 40, "evaluation.ood": "mnist",
}}
def get_grid():
    config = {f"{ROOT / 'configs' / 'quickstart.py'}:mixup"!r}
    return planned("killed", config, seeds=[0], settings=SETTINGS) + planned(
        "refused", config, seeds=[0], settings={{**SETTINGS, "data.validation_examples": 399}}
    )
"""


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


def trainer(workdir: Path) -> int:
    """The process that last took the lock of a folder."""
    return int((workdir / "lock").read_text().split()[1])


def continued(workdir: Path) -> int:
    """How often the run of a folder has gone on from a checkpoint."""
    return (workdir / "log.txt").read_text().count("continuing after step")


def outcome(workdir: Path) -> dict[str, Any]:
    stored = inspect(workdir / "checkpoints", steps_in(workdir / "checkpoints")[-1])
    assert stored.verified
    sums = {name: stored.facts["checksums"][name] for name in ("variables", "optimizer")}
    return {"step": stored.step, "lines": (workdir / "metrics.jsonl").read_text(), **sums}


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def process_state(pid: int) -> str:
    """S of one that sleeps, Z of one that has ended and nobody has asked about; empty for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.mark.skipif(not Path("/proc").exists(), reason="the Ray worker of a process is found through /proc")
def test_a_run_that_is_killed_twice_ends_with_the_bits_of_one_that_was_left_alone(data_dir: Path, tmp_path: Path):
    pytest.importorskip("ray")
    grid, output = tmp_path / "grid.py", tmp_path / "runs"
    killed = output / "killed-0"
    grid.write_text(GRID)
    command = [sys.executable, str(SCRIPT), f"--grid={grid}", f"--output={output}", f"--data_dir={data_dir}"]
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "disabled",  # its token would be written to the home folder
        "RAY_USAGE_STATS_ENABLED": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    sweep = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: steps_in(killed / "checkpoints"))
        os.kill(trainer(killed), signal.SIGKILL)
        wait_for(lambda: continued(killed) == 1)
        os.kill(parent(trainer(killed)), signal.SIGKILL)  # the Ray worker, and with it the process that trains
        # In a new process, so that the number of devices does not depend on what other tests have set in this one.
        train_alone, _ = commands(dataclasses.replace(load_grid(grid)[0], name="alone"), tmp_path, data_dir)
        subprocess.run(train_alone, env=environment, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        printed, _ = sweep.communicate(timeout=180)
    finally:
        sweep.kill()
    assert continued(killed) == 2, printed
    alone = outcome(tmp_path / "alone")
    assert outcome(killed) == alone
    assert json.loads((killed / "evaluation.json").read_text())["step"] == alone["step"]
    assert (output / "refused-0" / "log.txt").read_text().count("error:") == 1
    assert sweep.returncode == 1
    assert "killed-0: done" in printed
    assert "refused-0: FAILED" in printed
    assert "failed: killed-0" not in printed


CANCELLED = """
import _thread, signal, subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
from error_cases import ray_sweep
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let programs in the background ignore it
wait = ray_sweep()._wait
saving = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))"
saving += "; print(flush=True); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", saving], stdout=subprocess.PIPE)
process.stdout.readline()
threading.Timer(0.5, _thread.interrupt_main).start()  # Ray's way to cancel: no signal arrives
try:
    wait(process)
except KeyboardInterrupt:
    sys.exit(process.returncode)
"""


def test_a_task_that_is_cancelled_lets_its_process_save():
    # In a process of its own, in which nothing else may swallow the interruption.
    command = [sys.executable, "-c", CANCELLED, str(ROOT / "tests")]
    assert subprocess.run(command, cwd=ROOT, timeout=50).returncode == 75


PARENT = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from error_cases import ray_sweep
print(subprocess.Popen(ray_sweep()._bound_to_us(["sleep", "60"])).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv of util-linux")
def test_a_run_ends_with_the_process_that_started_it():
    command = [sys.executable, "-c", PARENT, str(ROOT / "tests")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    # Until setpriv has become the program, it may not have asked for the signal yet.
    wait_for(lambda: Path(f"/proc/{child}/comm").read_text().strip() == "sleep", seconds=10)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: process_state(child) in ("", "Z"), seconds=10)


def test_a_machine_without_room_for_one_run_is_refused(capsys: pytest.CaptureFixture[str]):
    check, needs = ray_sweep()._check_room, {"CPU": 1, "GPU": 0, "TPU": 4}
    check(needs, {"CPU": 2.0, "GPU": 8.0, "TPU": 4.0}, may_grow=False)
    check(needs, {"CPU": 2.0}, may_grow=True)
    with pytest.raises(InputError, match="--tpus is 4, but this machine has 0; expected"):
        check(needs, {"CPU": 2.0}, may_grow=False)
    assert not capsys.readouterr().out
    check({**needs, "TPU": 0}, {"CPU": 2.0, "GPU": 8.0}, may_grow=False)
    assert "none of 8 GPUs; --gpus=N" in capsys.readouterr().out
