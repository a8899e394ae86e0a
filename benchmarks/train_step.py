"""Our training step against PyTorch's, eager and compiled, on the CPU: same network, batch, mixup and optimiser.

    pip install torch
    python benchmarks/train_step.py [--write]

A step takes a random batch of 128 from examples in memory (uint8 images, int32 tokens), standardises it, mixes it
with alpha 0.2, and updates by SGD with momentum and weight decay.  The sides run in separate
processes and take turns.  A ratio above 1 means that we are faster.
"""

from functools import partial

import accelerator_parts
from networks import CASES, Case
from side_by_side import Run, Side, compare, medians, parser

HEADER = ("network", "ours ms", "eager ms", "compiled ms", "eager / ours", "compiled / ours")


def ours(case: Case) -> Run:
    """Takes the step of `mixup_jax.main`."""
    from mixup_jax.libraries import keep_freed_memory

    keep_freed_memory()
    return accelerator_parts.ours(case)


def row_of(case: Case, rounds: int) -> list[list[str]]:
    theirs = accelerator_parts.theirs
    with Side(ours, case) as own, Side(theirs, case, False) as eager, Side(theirs, case, True) as compiled:
        times = medians([own, eager, compiled], rounds=rounds, seconds_a_turn=1)
    ratios = [f"{seconds / times[0]:.2f}" for seconds in times[1:]]
    return [[case.label, *(f"{1000 * seconds:.1f}" for seconds in times), *ratios]]


def main() -> None:
    arguments = parser(__doc__, rounds=7, only="networks").parse_args()
    compare("train_step", HEADER, CASES, partial(row_of, rounds=arguments.rounds), arguments, ("jax", "flax", "torch"))


if __name__ == "__main__":
    main()
