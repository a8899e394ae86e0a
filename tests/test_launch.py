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
