"""Our training step against PyTorch's, eager and compiled, on the CPU: same network, batch, mixup and optimiser.

    pip install torch
    python benchmarks/train_step.py [--write]

A step takes a random batch of 128 from examples in memory (uint8 images, int32 tokens), standardises it, mixes it
with alpha 0.2, and updates by SGD with momentum and weight decay.  The sides run in separate
processes and take turns.  A ratio above 1 means that we are faster.
"""

from contextlib import ExitStack
from functools import partial

import accelerator_parts
from accelerator_parts import theirs
from networks import CASES, Case
from side_by_side import Run, Side, compare, medians, parser

HEADER = ("network", "ours ms", "eager ms", "compiled ms", "eager / ours", "compiled / ours")


def ours(case: Case) -> Run:
    """Takes the step of `mixup_jax.main`."""
    from mixup_jax.libraries import keep_freed_memory

    keep_freed_memory()
    return accelerator_parts.ours(case)


def row_of(case: Case, rounds: int, compiled: bool) -> list[list[str]]:
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(ours, case)), stack.enter_context(Side(theirs, case, False))]
        if compiled:
            sides.append(stack.enter_context(Side(theirs, case, True)))
        times = medians(sides, rounds=rounds, seconds_a_turn=1)
    missing = [] if compiled else ["-"]
    ratios = [f"{seconds / times[0]:.2f}" for seconds in times[1:]]
    return [[case.label, *(f"{1000 * seconds:.1f}" for seconds in times), *missing, *ratios, *missing]]


def main() -> None:
    flags = parser(__doc__, rounds=7, only="networks")
    flags.add_argument("--eager", action="store_true", help="leave out torch.compile, whose first step takes a minute")
    arguments = flags.parse_args()
    row = partial(row_of, rounds=arguments.rounds, compiled=not arguments.eager)
    compare("train_step", HEADER, CASES, row, arguments, ("jax", "flax", "torch"))


if __name__ == "__main__":
    main()
