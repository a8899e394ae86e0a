import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_slurm_job_trains_and_then_evaluates():
    environment = {
        **os.environ,
        "DRY_RUN": "1",
        "CONFIG": "configs/fashion_mnist.py:erm",
        "WORKDIR": "/scratch/a run",
        "OVERRIDES": "--config.seed=1 --config.epochs=3",
    }
    job = subprocess.run(
        ["bash", str(ROOT / "launch" / "slurm.sbatch")], env=environment, capture_output=True, text=True, check=True
    )
    assert job.stdout.splitlines() == [
        ".venv/bin/python -m mixup_jax.main --config=configs/fashion_mnist.py:erm --workdir=/scratch/a run "
        "--config.seed=1 --config.epochs=3",
        ".venv/bin/python -m mixup_jax.evaluate --workdir=/scratch/a run",
    ]
    del environment["WORKDIR"]
    failed = subprocess.run(
        ["bash", str(ROOT / "launch" / "slurm.sbatch")], env=environment, capture_output=True, text=True
    )
    assert failed.returncode != 0
    assert "set WORKDIR" in failed.stderr


def test_an_interrupted_slurm_job_is_queued_again_and_another_failure_is_not(tmp_path: Path):
    for name, script in {
        "python": 'echo "python $*" >> "$LOG"; exit "$CODE"',
        "srun": '"$@"',
        "scontrol": 'echo "scontrol $*" >> "$LOG"',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for code, returned, last in ((75, 0, "scontrol requeue 17"), (2, 2, "main"), (0, 0, "mixup_jax.evaluate")):
        log = tmp_path / f"{code}.log"
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHON": str(tmp_path / "python"),
            "CONFIG": "a.py",
            "WORKDIR": "w",
            "SLURM_JOB_ID": "17",
            "CODE": str(code),
            "LOG": str(log),
        }
        job = subprocess.run(["bash", str(ROOT / "launch" / "slurm.sbatch")], env=environment)
        assert job.returncode == returned
        assert last in log.read_text().splitlines()[-1]
