"""The cost of mixing: the training step with mixup against the same step without.

    python benchmarks/mixup_cost.py --platform=cpu [--rounds=120] [--write=docs/scaling.md]
    python benchmarks/mixup_cost.py --platform=tpu [--write=docs/scaling.md]

On the CPU both steps take turns, and their median times are compared. For a TPU the cycles and bytes of a ResNet-50
step on v5e 2x2 are compared, from records of benchmarks/scaling.py, which are made if they are missing.
Aims: 1.02 on the CPU, 1.01 on the TPU.
"""

import argparse
from pathlib import Path
from typing import Any

from accelerator_parts import mixing
from document import write_between
from networks import BATCH, Case
from scaling import compile_missing, load, table

from mixup_jax.config import ModelConfig

NETWORKS = {"ResNet-8, width 16": ("resnet8", 16), "ResNet-18, width 16": ("resnet18", 16)}


def on_cpu(rounds: int) -> str:
    """Returns the table of both steps' median times."""
    rows = []
    for label, (name, width) in NETWORKS.items():
        case = Case(label, ModelConfig(name=name, width=width), "fashion_mnist")
        plain, mixed = mixing(case, ["erm", "mixup"], rounds, 1)["step_seconds"].values()
        rows.append([label, f"{plain * 1e3:.1f}", f"{mixed * 1e3:.1f}", f"{mixed / plain:.3f}"])
    return table([f"CPU, batch {BATCH}", "without, ms", "with mixing, ms", "ratio"], rows)


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
