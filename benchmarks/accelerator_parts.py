"""The parts of benchmarks/accelerator.py that use the device: functions that run in separate processes.

They take and return plain values, and import jax and torch inside, after the environment is set.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, ROWS, SIDE = 64, 32, 28
"""The number of made-up images on which the device is compared with the CPU, the rows of a batch, and their side."""


def apart(function: Callable[..., Any], *arguments: Any, seconds: float, **environment: str) -> Any:
    """Returns what a function of this module returns in a new process, which has these environment variables too.

    Raises RuntimeError with the message of an error that the function raised, and TimeoutError after `seconds`.
    """
    context = multiprocessing.get_context("spawn")
    connection, other = context.Pipe()
    process = context.Process(target=_answer, args=(other, environment, function, arguments))
    process.start()
    other.close()
    try:
        if not connection.poll(seconds):
            raise TimeoutError(f"not done within {seconds:.0f} s")
        done, result = connection.recv()
    except EOFError:
        raise RuntimeError("the process ended without a result") from None
    finally:
        process.kill()
        process.join()
    if not done:
        raise RuntimeError(result)
    return result


def _answer(
    connection: Connection, environment: Mapping[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    try:
        connection.send((True, function(*arguments)))
    except Exception as error:  # reported as the part's result, and the other parts go on
        connection.send((False, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"))


def seconds_of(run: Callable[[], Any], rounds: int, each: int) -> float:
    """Returns the median seconds of one call; the arrays that `run` returns are awaited after every `each` calls."""
    import jax

    jax.block_until_ready(run())
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(each):
            last = run()
        jax.block_until_ready(last)
        times.append((time.perf_counter() - start) / each)
    return float(np.median(times))


def roofline(side: int, megabytes: int) -> dict[str, Any]:
    """Returns the device's name, and its speed of copying (bytes read and written) and of a bfloat16 product."""
    import jax
    import jax.numpy as jnp

    device = jax.devices()[0]
    held = jnp.ones((megabytes, 2**18), jnp.float32)
    factors = jax.random.normal(jax.random.key(0), (2, side, side), jnp.bfloat16)
    copy = jax.jit(lambda x: x + 1)
    copied = seconds_of(lambda: copy(held), 5, 10)
    product = jax.jit(lambda pair: jnp.matmul(pair[0], pair[1], preferred_element_type=jnp.float32).astype(pair.dtype))
    multiplied = seconds_of(lambda: product(factors), 5, 10)
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "copy_bytes_per_second": 2 * held.nbytes / copied,
        "bf16_flops": 2 * side**3 / multiplied,
    }


def numbers(width: int, methods: list[str], folder: str) -> dict[str, Any]:
    """Takes two steps of each method in float32, and predicts; writes the results to `folder`.

    Returns:
      By method, whether its second step from the state that went through the host gave the same bits.
    """
    import jax
    import jax.numpy as jnp

    from mixup_jax.data.augment import inputs_of
    from mixup_jax.methods import mixup
    from mixup_jax.prediction.variants import odin_logits

    # By default an accelerator computes float32 products in a faster, less precise type.
    jax.config.update("jax_default_matmul_precision", "highest")
    repeats = {}
    for name in methods:
        run, state, fed = _small_run(width, name, "jit")
        first, metrics = run.step(state, *fed)
        kept = jax.device_get(first)
        second, _ = run.step(first, *fed)
        again, _ = run.step(_placed(run, kept), *fed)
        repeats[name] = _same(second, again)
        found = {f"metric/{key}": value for key, value in metrics.items()} | _named("step", kept.params)
        if name == "mixup":
            pixels = np.asarray(fed[0].inputs)
            found["logits"] = run.predict(kept.variables, pixels)
            model, standardised = _model(run.config), inputs_of(_spec())(jnp.asarray(pixels))
            found["odin"] = odin_logits(
                lambda x, model=model, kept=kept: model.apply(kept.variables, x, train=False),
                standardised,
                temperature=1000.0,
                epsilon=0.01,
            )
            mapped_run, mapped_state, mapped_fed = _small_run(width, name, "pmap")
            mapped, _ = mapped_run.step(mapped_state, *mapped_fed)
            found |= _named("pmap", mapped.params)
            for alpha in (0.2, 1.0, 20.0):
                drawn = mixup.draw_mixing(jax.random.key(3), 8, 128, alpha, per_example=True)
                found |= {f"lambda/{alpha}": drawn.lam, f"partner/{alpha}": drawn.partner}
        np.savez(Path(folder) / f"{name}.npz", **{key: np.asarray(value) for key, value in found.items()})
    return repeats


def _spec() -> Any:
    from mixup_jax.data.catalog import training_spec

    return training_spec("fashion_mnist")


def _model(config: Any) -> Any:
    from mixup_jax.models import model_of

    return model_of(config.model, classes=_spec().classes)


def _small_run(width: int, name: str, parallel: str) -> tuple[Any, Any, tuple[Any, ...]]:
    """Returns a run of a small network, its first state, and the other arguments of its step."""
    from mixup_jax.config import Config, DataConfig, ModelConfig
    from mixup_jax.data.sets import ExampleSet
    from mixup_jax.methods.method import VARIANTS
    from mixup_jax.training.trainer import prepare

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, SIDE, SIDE, 1), dtype=np.uint8)
    labels = generator.integers(0, 10, IMAGES).astype(np.int32)
    model = ModelConfig(name="resnet8", width=width, dropout=VARIANTS[name].dropout)
    data = DataConfig(name="fashion_mnist")
    config = Config(batch_size=ROWS, parallel=parallel, data=data, model=model, method=VARIANTS[name].method)
    run, state = prepare(config, _spec(), IMAGES // ROWS)
    return run, state, next(run.batches(ExampleSet(images, labels, "made up"), 0))


def _placed(run: Any, state: Any) -> Any:
    from mixup_jax.devices.mesh import replicate

    return replicate(run.mesh, state)


def _named(prefix: str, tree: Any) -> dict[str, Any]:
    import jax

    return {f"{prefix}{jax.tree_util.keystr(path)}": leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _same(one: Any, other: Any) -> bool:
    import jax

    pairs = zip(*map(jax.tree.leaves, jax.device_get((one, other))), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def resumed(width: int) -> dict[str, Any]:
    """Trains a small run once without and once with an interruption, and compares the bits of the checkpoints."""
    import jax
    from small import make_data

    from mixup_jax.config import CheckpointConfig, Config, DataConfig, EvaluationConfig, ModelConfig
    from mixup_jax.methods.method import VARIANTS
    from mixup_jax.training.loop import train
    from mixup_jax.training.stop import Interrupted, Stop

    class StopAt(Stop):
        def requested(self, step: int) -> bool:
            return step == 5

    folder = Path(tempfile.mkdtemp())
    make_data(folder, train=400)
    config = Config(
        epochs=2,
        batch_size=64,
        tensorboard=False,
        data=DataConfig(name="fashion_mnist", validation_examples=80),
        model=ModelConfig(name="resnet8", width=width),
        method=VARIANTS["mixup"].method,
        evaluation=EvaluationConfig(batch_size=64),
        checkpoint=CheckpointConfig(),
    )

    def trained(name: str, stop: Stop) -> None:
        train(config, folder / name, folder, lambda line: None, stop)

    trained("through", Stop())
    try:
        trained("halved", StopAt())
    except Interrupted:
        trained("halved", Stop())
    one, other = (_last_state(folder / name, config) for name in ("through", "halved"))
    differences = [float(np.max(np.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True)]
    return {"equal": max(differences) == 0, "leaves that differ": sum(map(bool, differences)), "of": len(differences)}


def _last_state(workdir: Path, config: Any) -> Any:
    import jax

    from mixup_jax.runs import workdir as names
    from mixup_jax.store.checkpoint import Checkpoints
    from mixup_jax.training.trainer import prepare

    run, state = prepare(config, _spec(), 5)
    with Checkpoints(workdir / names.CHECKPOINTS, keep=2, report=print) as checkpoints:
        restored = checkpoints.restore_state(checkpoints.last, state, run.mesh)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), jax.device_get(restored))


def step_of(case: Any, **changes: Any) -> tuple[Callable[[], Any], float]:
    """Returns a function that takes a step of a case on examples on the device, and the network's FLOPs of a step."""
    import dataclasses

    import jax

    from mixup_jax.ahead.compile import BACKWARD, forward_flops
    from mixup_jax.data.sets import ExampleSet
    from mixup_jax.devices.mesh import by_rows
    from mixup_jax.training.trainer import parts_of, prepare

    config = dataclasses.replace(case.config, **changes)
    vocabulary = case.vocabulary()
    run, state = prepare(config, case.spec, 1, vocabulary)
    inputs, labels = case.examples(case.batch if case.spec.streams else max(case.batch, 1024))
    if case.spec.streams:
        fed: tuple[Any, ...] = jax.device_put((inputs, labels), by_rows(run.mesh))
    else:
        fed = next(run.batches(ExampleSet(inputs, labels, "made up"), 0))
    # The data are whole batches, because the number of the step, which selects the batch, grows without end.
    current = [state]
    parts = parts_of(config, case.spec, run.mesh, 1, len(vocabulary) if vocabulary else 0)
    flops = BACKWARD * forward_flops(case.spec, parts) * case.batch * config.method.copies

    def take() -> Any:
        current[0], metrics = run.step(current[0], *fed)
        return metrics

    return take, flops


def ours(case: Any) -> Callable[[int], None]:
    """Takes the step of `mixup_jax.main`; a side of side_by_side."""
    import jax

    take, _ = step_of(case)

    def steps(count: int) -> None:
        for _ in range(count):
            last = take()
        jax.block_until_ready(last)

    steps(2)
    return steps


def theirs(case: Any, compiled: bool) -> Callable[[int], None]:
    """Takes the step as PyTorch users write it: channels last, bfloat16 by autocast, examples on the device."""
    import torch
    import torch.nn.functional as F  # noqa: N812  # torch's own name for it
    from networks import torch_inputs, torch_network

    device = "cuda" if torch.cuda.is_available() else "cpu"
    count = case.batch if case.spec.streams else max(case.batch, 1024)
    inputs, labels = (torch.from_numpy(array).to(device) for array in case.examples(count))
    labels, network = labels.long(), torch_network(case).to(device)
    forward = torch.compile(network) if compiled else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    beta = torch.distributions.Beta(torch.tensor(0.2, device=device), torch.tensor(0.2, device=device))

    def steps(number: int) -> None:
        for _ in range(number):
            rows = torch.randint(count, (case.batch,), device=device)
            x, y = torch_inputs(case, network, inputs[rows]), labels[rows]
            lam, partner = beta.sample(), torch.randperm(case.batch, device=device)
            with torch.autocast(device, torch.bfloat16, enabled=case.model.dtype == "bfloat16"):
                logits = forward(lam * x + (1 - lam) * x[partner])
                loss = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[partner])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    steps(3)
    return steps


def flops_of(case: Any) -> float:
    """Returns the network's own FLOPs of a step."""
    return step_of(case)[1]


def step_seconds(case: Any, rounds: int, each: int) -> float:
    """Returns the median seconds of our step."""
    take, _ = step_of(case)
    return seconds_of(take, rounds, each)


def mixing(case: Any, methods: list[str], rounds: int, each: int) -> dict[str, Any]:
    """Returns the median seconds of a step by method, with the methods in turns, and those of drawing the mixing."""
    import jax

    from mixup_jax.methods import mixup
    from mixup_jax.methods.method import VARIANTS

    takes = {name: step_of(case, method=VARIANTS[name].method)[0] for name in methods}
    times: dict[str, list[float]] = {name: [] for name in methods}
    for take in takes.values():
        jax.block_until_ready(take())
    for number in range(rounds):
        for name in methods if number % 2 else reversed(methods):
            times[name].append(seconds_of(takes[name], 1, each))
    groups = -(-case.batch // 128)
    draw = jax.jit(lambda key: mixup.draw_mixing(key, groups, case.batch // groups, 0.2))
    seconds = {name: float(np.median(each)) for name, each in times.items()}
    return {"step_seconds": seconds, "draw_seconds": seconds_of(lambda: draw(jax.random.key(0)), rounds, each)}
