"""Our training step against PyTorch's, eager and compiled, on the CPU: same network, batch, mixup and optimiser.

    pip install torch
    python benchmarks/train_step.py [--write]

A step takes a random batch of 128 from examples in memory (uint8 images, int32 tokens), standardises it, mixes it
with alpha 0.2, and updates by SGD with momentum and weight decay.  Each side runs in a process of its own; they take
turns.  A ratio above 1 says that we are faster.
"""

from __future__ import annotations

from networks import BATCH, CASES, EXAMPLES, Case, torch_inputs, torch_network
from side_by_side import Run, Side, machine, medians, parser, publish, table

HEADER = ("network", "ours ms", "eager ms", "compiled ms", "eager / ours", "compiled / ours")


def ours(case: Case) -> Run:
    """The step that `mixup_jax.main` takes."""
    from mixup_jax.libraries import keep_freed_memory

    keep_freed_memory()
    import jax

    from mixup_jax.data.sets import ExampleSet
    from mixup_jax.training.trainer import prepare

    run, state = prepare(case.config, case.spec, EXAMPLES // BATCH, case.vocabulary())
    feed = run.batches(ExampleSet(*case.examples(), "random"), 0)

    def steps(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, metrics = run.step(state, *next(feed))
        jax.block_until_ready(metrics)

    steps(2)
    return steps


def theirs(case: Case, compiled: bool) -> Run:
    """The step as a PyTorch user writes it, with channels last."""
    import numpy as np
    import torch
    import torch.nn.functional as F  # noqa: N812  # torch's own name for it

    inputs, labels = (torch.from_numpy(array) for array in case.examples())
    labels, network = labels.long(), torch_network(case)
    forward = torch.compile(network) if compiled else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def steps(count: int) -> None:
        for _ in range(count):
            rows = torch.randint(EXAMPLES, (BATCH,))
            x, y = torch_inputs(case, network, inputs[rows]), labels[rows]
            lam, partner = float(np.random.beta(0.2, 0.2)), torch.randperm(BATCH)
            logits = forward(lam * x + (1 - lam) * x[partner])
            loss = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[partner])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    steps(2)
    return steps


def compare(case: Case, rounds: int, compiled: bool) -> list[str]:
    with Side(ours, case) as own, Side(theirs, case, False) as eager:
        if not compiled:
            times = medians([own, eager], rounds=rounds, seconds_a_turn=1)
        else:
            with Side(theirs, case, True) as other:
                times = medians([own, eager, other], rounds=rounds, seconds_a_turn=1)
    shown = [f"{1000 * seconds:.1f}" for seconds in times]
    ratios = [f"{seconds / times[0]:.2f}" for seconds in times[1:]]
    missing = [] if compiled else ["-"]
    return [case.label, *shown, *missing, *ratios, *missing]


def main() -> None:
    flags = parser(__doc__, rounds=7)
    flags.add_argument("--only", default="", help="networks whose label has this in it")
    flags.add_argument("--eager", action="store_true", help="leave out torch.compile, whose first step takes a minute")
    arguments = flags.parse_args()
    rows = []
    for case in CASES:
        if arguments.only in case.label:
            rows.append(compare(case, arguments.rounds, not arguments.eager))
            print(*table(HEADER, rows)[-1:], sep="\n", flush=True)
    lines = [*table(HEADER, rows), "", machine("jax", "flax", "torch")]
    publish("train_step", lines, arguments.write)


if __name__ == "__main__":
    main()
