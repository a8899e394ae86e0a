"""The shell scripts of launch/: what they would run, and what they do about ends of every kind."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[1] / "launch"
TPU = ["run", "--name=mix", "--zone=us-west4-a", "--spot", "--bucket=b"]
TRAINING = ["--config=a.py", "--workdir=runs/a b", "--config.seed=1"]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)
    return path


def launch(name: str, *arguments: str, bin: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script, outside of Slurm unless told otherwise, with the programs of a folder before all others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    path = {"PATH": f"{bin}:{os.environ['PATH']}"} if bin else {}
    command = ["bash", str(LAUNCH / name), *arguments]
    return subprocess.run(command, env={**inherited, **path, **environment}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["slurm.sbatch", "tpu_vm.sh"])
def test_help_shows_a_command_to_copy(name: str):
    shown = launch(name, "--help")
    assert shown.returncode == 0
    assert "--config=configs/fashion_mnist.py:mixup" in shown.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("slurm.sbatch", ["--dry-run", "--config=a.py"], "--workdir is missing; expected --workdir=DIR"),
        ("slurm.sbatch", TRAINING, "this is not a Slurm job; expected: sbatch"),
        ("tpu_worker.sh", ["start"], "unknown command start; expected install, prepare or train"),
        ("tpu_vm.sh", ["start"], "unknown command start; expected create, install, run, fetch or delete"),
        ("tpu_vm.sh", ["create", "--nmae=a"], "unknown argument --nmae=a; expected"),
        ("tpu_vm.sh", ["create", "--name=a"], "--zone is missing; expected --zone=VALUE for create"),
        ("tpu_vm.sh", ["run", "--name=a", "--zone=z"], "--bucket is missing"),
        ("tpu_vm.sh", [*TPU, "--", "--config=a.py", "--workdir=/tmp/a"], "--workdir=runs/NAME is missing"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(name: str, arguments: list[str], message: str):
    failed = launch(name, *arguments)
    assert failed.returncode == 2
    assert failed.stderr.startswith(f"error: {message}")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("slurm", "added"),
    [
        ({}, ""),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "4", "SLURM_GPUS_ON_NODE": "8"}, " --distributed"),
    ],
)
def test_a_dry_run_of_the_slurm_job_prints_training_and_evaluation(slurm: Mapping[str, str], added: str):
    shown = launch("slurm.sbatch", *TRAINING, "--data_dir=d", "--dry-run", **slurm)
    places = rf"--workdir=runs/a\ b --data_dir=d{added}"
    assert [line.rstrip() for line in shown.stdout.splitlines()] == [
        f"srun .venv/bin/python -m mixup_jax.main --config=a.py --config.seed=1 {places}",
        f"srun .venv/bin/python -m mixup_jax.evaluate {places}",
    ]


@pytest.mark.parametrize(
    ("tasks", "devices"), [("4", "0,1,2,3,4,5,6,7"), ("32", "chosen by jax")], ids=["by node", "by GPU"]
)
def test_a_process_of_a_node_takes_all_its_gpus(tasks: str, devices: str, tmp_path: Path):
    script(tmp_path / "srun", 'echo "${JAX_LOCAL_DEVICE_IDS:-chosen by jax}"')
    slurm = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": tasks, "SLURM_JOB_NUM_NODES": "4", "SLURM_GPUS_ON_NODE": "8"}
    assert launch("slurm.sbatch", *TRAINING, bin=tmp_path, **slurm).stdout.splitlines() == [devices] * 2


@pytest.mark.parametrize(
    ("code", "returned", "last"),
    [
        (75, 0, "scontrol requeue 17"),
        (143, 0, "scontrol requeue 17"),
        (2, 2, "python -m mixup_jax.main"),
        (0, 0, "python -m mixup_jax.evaluate"),
    ],
)
def test_an_interrupted_slurm_job_is_queued_again_and_another_failure_is_not(
    code: int, returned: int, last: str, tmp_path: Path
):
    log = tmp_path / "log"
    script(tmp_path / "srun", '"$@"')
    script(tmp_path / "scontrol", f'echo "scontrol $*" >> {log}')
    python = script(tmp_path / "python", f'echo "python $*" >> {log}; exit {code}')
    job = launch("slurm.sbatch", *TRAINING, bin=tmp_path, PYTHON=str(python), SLURM_JOB_ID="17")
    assert job.returncode == returned
    assert log.read_text().splitlines()[-1].startswith(last)


def test_a_dry_run_on_a_tpu_prints_every_command():
    shown = launch("tpu_vm.sh", *TPU, "--project=p", "--dry-run", "--", *TRAINING)
    place, gcloud = "--zone=us-west4-a --project=p", "gcloud compute tpus"
    workers = [f"{gcloud} tpu-vm ssh mix {place} --worker={number} --command=" for number in ("all", "0", "all")]
    lines = shown.stdout.splitlines()
    assert lines[:3] == [
        f"{gcloud} queued-resources create mix --node-id=mix {place} --accelerator-type=v5litepod-16 "
        "--runtime-version=v2-alpha-tpuv5-lite --spot",
        "git archive --format=tar.gz --output=/tmp/mixup_jax.tar.gz HEAD",
        f"{gcloud} tpu-vm scp /tmp/mixup_jax.tar.gz mix:mixup_jax.tar.gz {place} --worker=all",
    ]
    assert all(line.startswith(start) for line, start in zip(lines[3:], workers, strict=True))
    calls = [line.replace("\\", "").partition("mixup_jax/launch/tpu_worker.sh ")[2] for line in lines[3:]]
    assert calls == ["install b", "prepare " + " ".join(TRAINING), "train " + " ".join(TRAINING)]


@pytest.mark.parametrize(
    ("type_", "runtime"),
    [("v6e-8", "v2-alpha-tpuv6e"), ("v5p-8", "v2-alpha-tpuv5"), ("v3-8", "tpu-ubuntu2204-base")],
)
def test_a_tpu_gets_the_software_of_its_kind(type_: str, runtime: str):
    shown = launch("tpu_vm.sh", "create", "--name=mix", "--zone=z", f"--type={type_}", "--dry-run")
    assert f"--accelerator-type={type_} --runtime-version={runtime}\n" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["delete", "--name=mix", "--zone=z"],
            "gcloud compute tpus queued-resources delete mix --zone=z --force --quiet",
        ),
        (
            ["fetch", "--bucket=b", "--to=d"],
            r"gcloud storage rsync --recursive --exclude=.\*\[.\]data/.\*\|.\*/checkpoints/.\* gs://b d",
        ),
        (
            ["fetch", "--bucket=b", "--checkpoints"],
            r"gcloud storage rsync --recursive --exclude=.\*\[.\]data/.\* gs://b runs",
        ),
    ],
)
def test_a_dry_run_of_the_other_commands(arguments: list[str], line: str):
    assert launch("tpu_vm.sh", *arguments, "--dry-run").stdout.splitlines()[-1] == line


# What gcloud answers is read from files with a line for each time: the states of the slice, the codes of the training.
GCLOUD = """
take() { head -n 1 "$FOLDER/$1"; sed -i 1d "$FOLDER/$1"; }
case "$*" in
  *" list "*) take states ;;
  *" prepare "*) ;;
  *" train "*) echo train >> "$FOLDER/log"; exit "$(take codes)" ;;
  *) echo "$3 $4" >> "$FOLDER/log" ;;
esac
"""
AGAIN = ["tpu-vm scp", "tpu-vm ssh", "train"]
NEW = ["queued-resources delete", "queued-resources create"]


@pytest.mark.parametrize(
    ("states", "codes", "returned", "log"),
    [
        (["", "PROVISIONING", "ACTIVE"], [0], 0, ["queued-resources create", *AGAIN]),
        (["ACTIVE", "SUSPENDED", "SUSPENDED", "ACTIVE"], [255, 0], 0, [*AGAIN, *NEW, *AGAIN]),
        (["ACTIVE", "SUSPENDING", "SUSPENDING", "SUSPENDED", "ACTIVE"], [2, 0], 2, AGAIN),
        (["ACTIVE"] * 9, [75, 0], 0, AGAIN * 2),
        (["ACTIVE"] * 9, [1, 1, 1, 1, 0], 1, AGAIN * 4),
    ],
    ids=["new", "preempted", "wrong", "interrupted", "failing"],
)
def test_a_run_on_a_tpu_asks_for_another_slice_or_tries_again(
    states: list[str], codes: list[int], returned: int, log: list[str], tmp_path: Path
):
    script(tmp_path / "gcloud", GCLOUD)
    script(tmp_path / "git", "")
    (tmp_path / "states").write_text("\n".join(states) + "\n")
    (tmp_path / "codes").write_text("\n".join(map(str, codes)) + "\n")
    run = launch("tpu_vm.sh", *TPU, "--", *TRAINING, bin=tmp_path, FOLDER=str(tmp_path), PAUSE="0")
    assert run.returncode == returned, run.stderr
    assert (tmp_path / "log").read_text().splitlines() == log


def test_a_worker_trains_and_then_evaluates(tmp_path: Path):
    shutil.copytree(LAUNCH, tmp_path / "launch")
    log = tmp_path / "log"
    script(tmp_path / ".venv" / "bin" / "python", f'printf "%s|" "$@" >> {log}; echo >> {log}')
    subprocess.run(["bash", str(tmp_path / "launch" / "tpu_worker.sh"), "train", *TRAINING], check=True, timeout=60)
    assert log.read_text().splitlines() == [
        "-m|mixup_jax.main|--distributed|--config=a.py|--workdir=runs/a b|--config.seed=1|--data_dir=runs/.data|",
        "-m|mixup_jax.evaluate|--distributed|--workdir=runs/a b|--data_dir=runs/.data|",
    ]


@pytest.mark.parametrize(("given", "place"), [([], "runs/.data"), (["--data_dir=d"], "d")])
def test_one_worker_prepares_the_data_of_the_config(given: list[str], place: str, tmp_path: Path):
    shutil.copytree(LAUNCH, tmp_path / "launch")
    log = tmp_path / "log"
    script(tmp_path / ".venv" / "bin" / "python", f'printf "%s|" "$@" >> {log}')
    worker = ["bash", str(tmp_path / "launch" / "tpu_worker.sh"), "prepare", *TRAINING, *given]
    subprocess.run(worker, check=True, timeout=60)
    assert log.read_text() == f"-m|mixup_jax.data|--data_dir={place}|--config=a.py|--config.seed=1|"


def test_a_worker_is_installed_with_the_bucket_in_the_place_of_its_runs(tmp_path: Path):
    shutil.copytree(LAUNCH, tmp_path / "launch")
    log, bin = tmp_path / "log", tmp_path / "bin"
    note = f'echo "$(basename "$0") $*" >> {log}'
    for path in (bin / "python3", bin / "gcsfuse", tmp_path / ".local" / "bin" / "uv", tmp_path / ".venv/bin/python"):
        script(path, note)
    script(bin / "mountpoint", "exit 1")
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    worker = ["bash", str(tmp_path / "launch" / "tpu_worker.sh"), "install", "b"]
    subprocess.run(worker, env=environment, check=True, timeout=60)
    assert log.read_text().splitlines() == [
        "python3 -m pip install --quiet --user uv",
        "uv venv --quiet --allow-existing --python=3.12 .venv",
        "uv pip install --quiet --editable .[tpu,tensorflow,stream]",
        "gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 b runs",
    ]
