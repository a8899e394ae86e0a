"""Runs in several real processes on this machine, against runs in one."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import jax
import numpy as np
import pytest
from photographs import write_imagenet

from benchmarks.small import NAME, add_model, make_data
from mixup_jax.command import EXIT_BAD_INPUT
from mixup_jax.config_file import load_config
from mixup_jax.devices import processes
from mixup_jax.devices.mesh import device_mesh
from mixup_jax.devices.processes import EXIT_LOST
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.models import NETWORKS
from mixup_jax.runs.records import load_record
from mixup_jax.store.verify import inspect, read_item, steps_in
from mixup_jax.training import loop
from mixup_jax.training import trainer as run_parts
from mixup_jax.training.stop import EXIT_INTERRUPTED

pytestmark = pytest.mark.xdist_group("processes")
SCRIPT = Path(__file__).parent / "one_process.py"
SECONDS = 400
CONFIG = f"""
from mixup_jax.config import apply_variant, base_config

def get_config(name="mixup"):
    config = base_config()
    apply_variant(config, name)
    config.epochs, config.batch_size, config.log_every_steps, config.tensorboard = 3, 16, 2, False
    config.data.train_examples, config.data.validation_examples = 150, 50
    config.model.name, config.model.width, config.method.group_size = "{NAME}", 4, 4
    config.evaluation.batch_size, config.evaluation.ood, config.evaluation.record_epochs = 16, ("mnist",), (3,)
    return config
"""


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    add_model()
    yield
    del NETWORKS[NAME]


ONE_DEVICE = {
    "PYTHONPATH": str(SCRIPT.parents[1]),
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0",
}


def by_flags(port: int, count: int, number: int) -> dict[str, Any]:
    """How a process is told which it is."""
    arguments = [f"--coordinator=127.0.0.1:{port}", f"--processes={count}", f"--process={number}"]
    return {"arguments": arguments, "environment": {}}


def by_slurm(port: int, count: int, number: int) -> dict[str, Any]:
    """How Slurm tells a process which it is, but for the port, which it makes of the number of the job."""
    slurm = {"JOB_ID": "1", "STEP_NODELIST": "localhost", "NTASKS": count, "PROCID": number, "LOCALID": number}
    environment = {f"SLURM_{name}": str(value) for name, value in slurm.items()} | {"JAX_COORDINATOR_PORT": str(port)}
    return {"arguments": ["--distributed"], "environment": environment}


def run_together(
    count: int,
    arguments: list[str],
    *,
    signalled: tuple[int, int] = (0, 0),
    seconds: float = 0,
    flags: Callable[[int, int, int], dict[str, Any]] = by_flags,
) -> list[tuple[int, str, str]]:
    """Runs so many processes, of which number 1 is signalled after a step; returns their codes and outputs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = []
    for number in range(count):
        step, which = signalled if number == 1 else (0, 0)
        command = [sys.executable, str(SCRIPT), str(step), str(which), str(seconds), *arguments]
        told = flags(port, count, number)
        environment = {**os.environ, **ONE_DEVICE, **told["environment"]}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*command, *told["arguments"]], env=environment, **pipes))
    try:
        outputs = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, out, err) for process, (out, err) in zip(started, outputs, strict=True)]


def finished(workdir: Path) -> dict[str, Any]:
    """Returns the last checkpoint's arrays and the numbers of the log."""
    step = steps_in(workdir / "checkpoints")[-1]
    assert inspect(workdir / "checkpoints", step).verified
    items = {name: read_item(workdir / "checkpoints" / str(step) / name) for name in ("variables", "optimizer")}
    return {"step": step, "lines": [json.loads(line) for line in (workdir / "metrics.jsonl").open()], **items}


def test_a_run_of_four_processes_loses_one_and_is_finished_by_two(tmp_path: Path):
    make_data(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)
    changes = ["--config.checkpoint.every_steps=4"]
    shared = [f"--config={tmp_path / 'config.py'}", f"--data_dir={tmp_path}", *changes]
    arguments = [*shared, f"--workdir={tmp_path / 'several'}"]

    lost = run_together(4, arguments, signalled=(14, signal.SIGKILL))
    assert [code for code, _, _ in lost] == [EXIT_LOST, -signal.SIGKILL, EXIT_LOST, EXIT_LOST]
    for number in (0, 2, 3):
        assert f"process 1 of 4 has ended, so process {number} ends too" in lost[number][2]
    assert steps_in(tmp_path / "several" / "checkpoints")[-1] in (9, 12)

    (code, out, err), (other_code, other_out, other_err) = run_together(2, arguments)
    assert (code, other_code) == (0, 0), (err, other_err)
    assert "continuing after step" in out
    assert "2 cpu device(s) by jit, 2 processes" in out
    # Gloo, the library of collectives on CPUs, prints a line of its own.
    assert all("Gloo" in line for line in other_out.splitlines())

    config = load_config(str(tmp_path / "config.py"), changes)
    loop.train(config, tmp_path / "one", tmp_path)
    evaluate_workdir(tmp_path / "one", datasets=None, checkpoint="last", data_dir=tmp_path, force=False)
    one, several = finished(tmp_path / "one"), finished(tmp_path / "several")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), several, one)
    for path in [*(tmp_path / "one" / "predictions").iterdir(), tmp_path / "one" / "epochs" / "3.npz"]:
        record, other = load_record(path), load_record(tmp_path / "several" / path.parent.name / path.name)
        np.testing.assert_array_equal(other.labels, record.labels)
        np.testing.assert_allclose(other.logits, record.logits, rtol=1e-3, atol=1e-4)


def test_a_preempted_run_of_two_processes_saves_once_and_is_finished_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("grain")
    write_imagenet(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)
    changes = ["data.name=imagenet2012", "data.train_examples=0", "data.validation_examples=5", "data.workers=0"]
    changes += ["data.crop=random_resized", "data.crop_padding=0", "data.image_size=14", "batch_size=8", "epochs=20"]
    changes += ["parallel=pmap", "evaluation.ood=()", "evaluation.record_epochs=()", "evaluation.every_epochs=10"]
    changes = [f"--config.{change}" for change in changes]
    arguments = [f"--config={tmp_path / 'config.py'}", f"--data_dir={tmp_path}", *changes]

    ends = run_together(
        2, [*arguments, f"--workdir={tmp_path / 'two'}"], signalled=(2, signal.SIGTERM), seconds=0.3, flags=by_slurm
    )
    assert [code for code, _, _ in ends] == [EXIT_INTERRUPTED, EXIT_INTERRUPTED], ends
    (step,) = steps_in(tmp_path / "two" / "checkpoints")
    assert 2 <= step < 40
    assert f"interrupted after step {step} of 40, which is saved" in ends[0][2]

    # With as many devices in one process the sums are the same, bit for bit.
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    monkeypatch.setattr(run_parts, "device_mesh", lambda: device_mesh(jax.devices()[:2]))
    config = load_config(str(tmp_path / "config.py"), changes)
    loop.train(config, tmp_path / "two", tmp_path)
    loop.train(config, tmp_path / "one", tmp_path)
    two, one = finished(tmp_path / "two"), finished(tmp_path / "one")
    assert two["lines"] == one["lines"]
    jax.tree.map(np.testing.assert_array_equal, two, one)


def test_a_process_that_stands_still_for_a_while_costs_time_and_nothing_else(tmp_path: Path):
    make_data(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)
    arguments = [f"--config={tmp_path / 'config.py'}", f"--data_dir={tmp_path}"]
    ends = run_together(2, [*arguments, f"--workdir={tmp_path / 'two'}"], signalled=(4, signal.SIGSTOP))
    assert [code for code, _, _ in ends] == [0, 0], ends
    loop.train(load_config(str(tmp_path / "config.py")), tmp_path / "one", tmp_path)
    one, two = finished(tmp_path / "one"), finished(tmp_path / "two")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), two, one)


def test_a_process_whose_others_do_not_come_says_so():
    script = "from mixup_jax.devices.cluster import Cluster; from mixup_jax.devices import processes\n"
    script += "processes.CONNECT_SECONDS = 1\nwith processes.joined(Cluster('127.0.0.1:9', 2, 1)): pass"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=SCRIPT.parents[1])
    assert ended.returncode == EXIT_BAD_INPUT
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("error: --coordinator=127.0.0.1:9: process 1 of 2 could not join (not all came within 1 s)")


def test_a_stranger_is_not_taken_for_a_process(monkeypatch: pytest.MonkeyPatch):
    told: Queue[str] = Queue()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_from_first", told.put)
    with ThreadPoolExecutor() as pool:
        accepted = pool.submit(processes._accepted, "127.0.0.1")
        host, port, token = told.get(timeout=10).split(" ")
        with socket.create_connection((host, int(port))) as stranger, socket.create_connection((host, int(port))) as it:
            stranger.settimeout(10)
            stranger.sendall(bytes(processes.TOKEN_BYTES + 4))
            assert stranger.recv(1) == b""
            it.sendall(bytes.fromhex(token) + (1).to_bytes(4))
            connections = accepted.result(timeout=10)
            assert list(connections) == [1]
            assert connections[1].getpeername() == it.getsockname()
            connections[1].close()


def test_processes_must_be_given_the_same(monkeypatch: pytest.MonkeyPatch):
    processes.check_agreement("config", {"seed": 0})
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(processes.multihost_utils, "broadcast_one_to_all", lambda digest: digest ^ 1)
    with pytest.raises(processes.InputError, match="config of process 1 is not that of process 0"):
        processes.check_agreement("config", {"seed": 0})
