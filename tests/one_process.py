"""One process of a run of several, with the small network of the benchmarks.

    python tests/one_process.py STEP SIGNAL SECONDS ARGUMENTS..

trains with the arguments of `mixup_jax.main`, and then evaluates.  After step STEP it sends itself the signal SIGNAL;
none if it is 0.  Every step takes SECONDS more than it would.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.small import add_model
from mixup_jax import main
from mixup_jax.command import run_command
from mixup_jax.config import Config
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.training import loop
from mixup_jax.training.stop import Stop

last, number, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
requested, train = Stop.requested, loop.train


def signalled(stop: Stop, step: int) -> bool:
    if number == signal.SIGSTOP and step == last:
        subprocess.Popen(["sh", "-c", f"sleep 3; kill -CONT {os.getpid()}"])
    if number and step == last:
        os.kill(os.getpid(), number)
    time.sleep(seconds)
    return requested(stop, step)


def train_and_evaluate(config: Config, workdir: Path, data_dir: Path, **settings: Any) -> None:
    train(config, workdir, data_dir, **settings)
    evaluate_workdir(workdir, datasets=None, checkpoint="last", data_dir=data_dir, force=False)


Stop.requested = signalled  # type: ignore[method-assign]  # the test's signal comes at a known step
loop.train = train_and_evaluate
add_model()
sys.exit(run_command(main.main, sys.argv[4:]))
