"""Our prediction against PyTorch's on the CPU: images (or texts) a second from memory to logits, same networks.

    pip install torch
    python benchmarks/evaluate.py [--write]

Both sides take 1,000 examples (uint8 images, int32 tokens) in batches of 500 and standardise them.  They run in
separate processes and take turns.  A ratio above 1 means that we are faster.
"""

from functools import partial

from networks import CASES, Case, torch_inputs, torch_network
from side_by_side import Run, Side, compare, medians, parser

EXAMPLES, BATCH = 1000, 500
HEADER = ("network", "ours a second", "eager a second", "ours / eager")


def ours(case: Case) -> Run:
    """The prediction of `mixup_jax.evaluate`."""
    from mixup_jax.libraries import keep_freed_memory

    keep_freed_memory()
    from mixup_jax.training.trainer import prepare

    run, state = prepare(case.config, case.spec, 1, case.vocabulary())
    inputs, _ = case.examples(EXAMPLES)

    def predict(count: int) -> None:
        for _ in range(count):
            run.predict(state.variables, inputs)

    predict(1)
    return predict


def theirs(case: Case) -> Run:
    """The prediction as a PyTorch user writes it, with channels last."""
    import torch

    inputs, network = torch.from_numpy(case.examples(EXAMPLES)[0]), torch_network(case).eval()

    @torch.inference_mode()
    def predict(count: int) -> None:
        for _ in range(count):
            torch.cat([network(torch_inputs(case, network, some)) for some in inputs.split(BATCH)]).numpy()

    predict(1)
    return predict


def row_of(case: Case, rounds: int) -> list[list[str]]:
    with Side(ours, case) as own, Side(theirs, case) as other:
        times = medians([own, other], rounds=rounds, seconds_a_turn=1)
    return [[case.label, *(f"{EXAMPLES / seconds:,.0f}" for seconds in times), f"{times[1] / times[0]:.2f}"]]


def main() -> None:
    arguments = parser(__doc__, rounds=7, only="networks").parse_args()
    compare("evaluate", HEADER, CASES, partial(row_of, rounds=arguments.rounds), arguments, ("jax", "flax", "torch"))


if __name__ == "__main__":
    main()
