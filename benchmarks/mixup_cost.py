"""What mixing costs: the training step with mixup against the same step without.

    python benchmarks/mixup_cost.py --platform=cpu [--rounds=120] [--write=docs/scaling.md]
    python benchmarks/mixup_cost.py --platform=tpu [--write=docs/scaling.md]

On the CPU both steps are run in turn and their median times compared. For a TPU the cycles and bytes of a whole
ResNet-50 step on v5e 2x2 are compared, from records of benchmarks/scaling.py, which are made if they are missing.
Aims: 1.02 on the CPU, 1.01 on the TPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from document import write_between
from scaling import compile_missing, load, table

BATCH, CLASSES, SHAPE = 128, 10, (28, 28, 1)
NETWORKS = {"ResNet-8, width 16": ("resnet8", 16), "ResNet-18, width 16": ("resnet18", 16)}


def on_cpu(rounds: int) -> str:
    """Returns the table of both steps' median times."""
    rows = []
    for label, (name, width) in NETWORKS.items():
        plain, mixed = timed([cpu_step(name, width, variant) for variant in ("erm", "mixup")], rounds)
        rows.append([label, f"{plain * 1e3:.1f}", f"{mixed * 1e3:.1f}", f"{mixed / plain:.3f}"])
    return table([f"CPU, batch {BATCH}", "without, ms", "with mixing, ms", "ratio"], rows)


def cpu_step(name: str, width: int, variant: str) -> Callable[[], None]:
    """Returns what takes one training step of a method, on made-up images that stay on the device."""
    import jax
    import jax.numpy as jnp

    from mixup_jax.config import Config, DataConfig, ModelConfig
    from mixup_jax.data.catalog import training_spec
    from mixup_jax.data.feed import Resident, epoch_order
    from mixup_jax.methods.method import VARIANTS
    from mixup_jax.training.trainer import prepare

    config = Config(
        batch_size=BATCH,
        data=DataConfig(name="fashion_mnist"),
        model=ModelConfig(name=name, width=width),
        method=VARIANTS[variant].method,
    )
    run, state = prepare(config, training_spec("fashion_mnist"), steps_per_epoch=10)
    pixels = jax.random.randint(jax.random.key(0), (10 * BATCH, *SHAPE), 0, 256).astype(jnp.uint8)
    resident = Resident(pixels, jnp.arange(10 * BATCH) % CLASSES)
    order, current = epoch_order(run.keys.order, 0, 10 * BATCH), [state]

    def take() -> None:
        current[0], metrics = run.step(current[0], resident, order)
        jax.block_until_ready(metrics)

    return take


def timed(steps: list[Callable[[], None]], rounds: int) -> list[float]:
    """Returns the median seconds of each step, taken in turn."""
    for step in steps:
        step()
    seconds: list[list[float]] = [[] for _ in steps]
    for number in range(rounds):
        for index in range(len(steps)) if number % 2 else reversed(range(len(steps))):
            start = time.perf_counter()
            steps[index]()
            seconds[index].append(time.perf_counter() - start)
    return [statistics.median(each) for each in seconds]


def on_tpu() -> str:
    """Returns the table of both steps' cycles and bytes."""
    compile_missing(["v5e-2x2", "v5e-2x2-erm"])
    records: list[Any] = [load("v5e-2x2-erm"), load("v5e-2x2")]
    plain, mixed = (record["steps"]["train"] for record in records)
    rows = [
        [label, f"{plain[key] / scale:.2f}", f"{mixed[key] / scale:.2f}", f"{mixed[key] / plain[key]:.4f}"]
        for label, key, scale in (("cycles, M", "cycles", 1e6), ("bytes accessed, GB", "accessed", 1e9))
    ]
    return table(["ResNet-50 on v5e 2x2, 128 images a chip", "without", "with mixing", "ratio"], rows)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", required=True, choices=("cpu", "tpu"))
    parser.add_argument("--rounds", type=int, default=120, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into its place in a document")
    arguments = parser.parse_args()
    made = on_cpu(arguments.rounds) if arguments.platform == "cpu" else on_tpu()
    print(made)
    if arguments.write:
        write_between(arguments.write, f"mixup_cost: {arguments.platform}", made)


if __name__ == "__main__":
    main()
