"""The same run on 1, 2, 4 and 8 devices, by jit and by pmap, compared in float64 (float32 would show rounding only)."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from small_networks import Convolution

from mixup_jax.ahead.hlo import collectives, host_transfers
from mixup_jax.config import Config, DataConfig
from mixup_jax.data.feed import Resident, ResidentFeed, StreamedFeed, epoch_order
from mixup_jax.devices.mesh import AXIS, device_mesh, replicate
from mixup_jax.errors import InputError
from mixup_jax.methods.method import Method
from mixup_jax.methods.mixing import mix_batch
from mixup_jax.state import Batch, TrainState, run_keys
from mixup_jax.training.step import MappedStep, check_divisible, make_step, make_train_step, splits_groups
from mixup_jax.training.trainer import initial_state

# All in one worker, so that results shared by several tests are computed once.
pytestmark = [pytest.mark.xdist_group("parallel"), pytest.mark.filterwarnings("error::DeprecationWarning")]
KEYS = run_keys(0)
# Together these use every number of a method; all are run with dropout.
BLENDED = Method(
    mixup_alpha=0.5,
    group_size=4,
    layer="random",
    clean_weight=0.4,
    arc_weight=3.0,
    label_smoothing=0.1,
    entropy_weight=0.1,
    focal_gamma=2.0,
    focal_dual=True,
    brier_weight=0.3,
    logit_norm=0.5,
    margin_weight=0.1,
    margin=0.5,
    mdca_weight=1.0,
    rank_weight=0.3,
    rank_margin=0.1,
)
CUT = Method(mixup_alpha=1.0, group_size=4, cut=True, scope="example", mix_labels=False, arc_weight=3.0)
# Of 32 examples on 8 devices: a group on four devices, or the batch on all of them.
SPREAD = replace(BLENDED, group_size=16, scope="example", kernel_spread=0.5)
SPREAD_CUT = replace(CUT, group_size=0, mmce_weight=2.0)
DECOUPLED = Method(mixup_alpha=1.0, group_size=16, scope="example", decouple=True, decouple_gap=0.3)


@dataclass(frozen=True, eq=False)
class Ran:
    """The last state, every step's metrics, what the compiler made of the step, and whether it took the first state."""

    state: TrainState
    history: list[dict[str, Any]]
    program: str
    donated: bool


def run_steps(step: MappedStep, state: TrainState, fed: list[tuple[Any, ...]]) -> Ran:
    # flax makes statistics in float32, and a step would leave others.
    state = state._replace(batch_stats=jax.tree.map(lambda leaf: leaf.astype(np.float64), state.batch_stats))
    compiled = step.function.lower(*step.first, state, *fed[0]).compile()
    history, before = [], state
    for arguments in fed:
        state, metrics = compiled(*step.first, state, *arguments)
        history.append(jax.device_get(metrics))
    donated = all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    return Ran(jax.device_get(state), history, compiled.as_text(), donated)


@lru_cache
def trained(parallel: str, devices: int, method: Method = BLENDED) -> Ran:
    """Five steps with crops, flips, mixing and dropout."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (90, 6, 6, 1), dtype=np.uint8)
    labels = generator.integers(0, 5, 90).astype(np.int32)
    axis_name = AXIS if parallel == "pmap" else None
    with jax.enable_x64(True):
        mesh = device_mesh(jax.devices()[:devices])
        optimizer = optax.sgd(0.1, momentum=0.9, nesterov=True)
        data = DataConfig(crop_padding=1, flip=True, rotation=15.0)
        step = make_step(
            make_train_step(
                Convolution(axis_name, rate=0.3),
                optimizer,
                method,
                classes=5,
                standardise=lambda x: x / 255.0,
                axis_name=axis_name,
                mesh=None if axis_name else mesh,
            ),
            ResidentFeed(Config(batch_size=32, data=data)),
            mesh,
            parallel=parallel,
        )
        state = replicate(mesh, initial_state(Convolution(), optimizer, KEYS.init, input_shape=(6, 6, 1)))
        resident = replicate(mesh, Resident(jnp.asarray(images), jnp.asarray(labels)))
        keys = replicate(mesh, (KEYS.augment, KEYS.step))
        orders = [replicate(mesh, epoch_order(KEYS.order, number // 2, 90)) for number in range(5)]
        return run_steps(step, state, [(resident, order, keys) for order in orders])


def assert_close(one: Any, other: Any) -> None:
    # lambda stays float32, and its last bit may differ from program to program; other pairs would differ by percents.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8), one, other)


@pytest.mark.parametrize(
    ("parallel", "devices", "method"),
    [
        ("jit", 4, BLENDED),
        ("jit", 8, BLENDED),
        ("pmap", 2, BLENDED),
        ("pmap", 8, BLENDED),
        ("pmap", 8, DECOUPLED),
        ("jit", 8, CUT),
        ("pmap", 8, CUT),
        ("jit", 8, SPREAD),
        ("pmap", 8, SPREAD),
        ("jit", 8, SPREAD_CUT),
        ("pmap", 8, SPREAD_CUT),
    ],
)
def test_the_run_does_not_depend_on_devices_or_on_how_they_are_used(parallel: str, devices: int, method: Method):
    reference, other = trained("jit", 1, method), trained(parallel, devices, method)
    assert_close((other.state, other.history), (reference.state, reference.history))


@lru_cache
def one_step(parallel: str, devices: int, resident: bool) -> Ran:
    """One step with mirrors and mixing, of examples that stay on the devices or that are given as a batch."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (8, 6, 6, 1), dtype=np.uint8)
    labels = generator.integers(0, 5, 8).astype(np.int32)
    axis_name = AXIS if parallel == "pmap" else None
    with jax.enable_x64(True):
        mesh, optimizer = device_mesh(jax.devices()[:devices]), optax.sgd(0.1)
        train_step = make_train_step(
            Convolution(axis_name),
            optimizer,
            Method(mixup_alpha=0.5, group_size=2),
            classes=5,
            standardise=lambda x: x / 255.0,
            axis_name=axis_name,
            mesh=None if axis_name else mesh,
        )
        state = replicate(mesh, initial_state(Convolution(), optimizer, KEYS.init, input_shape=(6, 6, 1)))
        config = Config(batch_size=8, data=DataConfig(crop_padding=0, flip=True))
        keys = replicate(mesh, (KEYS.augment, KEYS.step))
        if resident:
            step = make_step(train_step, ResidentFeed(config), mesh, parallel=parallel)
            held = replicate(mesh, Resident(jnp.asarray(images), jnp.asarray(labels)))
            return run_steps(step, state, [(held, replicate(mesh, jnp.arange(8)), keys)])
        step = make_step(train_step, StreamedFeed(config), mesh, parallel=parallel)
        each = (devices, 8 // devices) if parallel == "pmap" else (8,)
        rows = (images.reshape(*each, 6, 6, 1), labels.reshape(each))
        placed = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(AXIS)))
        return run_steps(step, state, [(*placed, keys)])


@pytest.mark.parametrize(("parallel", "devices"), [("jit", 4), ("pmap", 4)])
def test_a_batch_that_is_given_is_trained_on_like_one_that_was_there(parallel: str, devices: int):
    expected, given = one_step("jit", 1, resident=True), one_step(parallel, devices, resident=False)
    assert_close(given.state, expected.state)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("fed", [BLENDED, CUT, None], ids=["resident, blended", "resident, cut", "streamed"])
def test_devices_exchange_sums_of_gradients_statistics_and_metrics_and_nothing_else(parallel: str, fed: Method | None):
    program = one_step(parallel, 4, resident=False).program if fed is None else trained(parallel, 8, fed).program
    found = collectives(program)
    assert {one.kind for one in found} == {"all-reduce"}
    assert not [one for one in found if one.in_loop]
    # Gradients of the weights, statistics and their gradients (two for each channel, however they are fused), and
    # scalars: nothing that grows with the batch.
    weights = {(3, 3, 1, 3), (3, 5), (5, 3), (5,)}
    shapes = [shape.dimensions for one in found for shape in one.shapes]
    assert set(shapes) <= weights | {(3,), (2, 3), (3, 2), (6,), (), (1,)}
    assert sum(one.bytes for one in found) < 8 * (27 + 15 + 5 + 10 * 3 + 10)
    assert not host_transfers(program)


def donated_parameters(program: str) -> set[int]:
    """Returns the numbers of the program's parameters whose memory its results reuse."""
    aliases = program.partition("\n")[0].partition("input_output_alias={")[2].partition(" }")[0]
    return {int(number) for number in re.findall(r"\{[\d, ]*\}: \((\d+), \{[\d, ]*\}", aliases)}


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_the_state_is_donated(parallel: str):
    states = {trained(parallel, 8): 2, one_step(parallel, 4, resident=False): 1}
    for ran, copies in states.items():
        leaves = 1 + copies * 6 + 2  # the step, the parameters and what the optimiser keeps of each, the statistics
        assert donated_parameters(ran.program) == set(range(leaves))
        assert ran.donated


def test_training_moves_the_parameters():
    run = trained("jit", 1)
    assert run.history[0]["mixing"] != run.history[1]["mixing"]
    assert run.history[0]["loss"] != run.history[4]["loss"]


@pytest.mark.parametrize(("devices", "rows", "size"), [(6, 4, 6), (2, 6, 4)])
@pytest.mark.parametrize("method", [BLENDED, CUT], ids=["blended", "cut"])
def test_under_pmap_a_group_may_lie_on_devices_in_any_way(devices: int, rows: int, size: int, method: Method):
    method, batch = replace(method, group_size=size), devices * rows
    images = jax.random.normal(jax.random.key(0), (batch, 6, 6, 1))
    whole = Batch(images, jnp.arange(batch) % 5, jnp.ones(batch))

    def mixed(part: Batch, axis_name: str | None = None) -> tuple[jax.Array, ...]:
        chosen = None if method.cut else jnp.asarray([1.0, 0.0, 1.0, 1.0, 0.0])
        made = mix_batch(method, part, KEYS.step, classes=5, places=2, mixed_classes=chosen, axis_name=axis_name)
        return made.mix(part.inputs, 0), made.targets, made.unsmoothed, made.weights

    mapped = jax.pmap(partial(mixed, axis_name=AXIS), axis_name=AXIS, devices=jax.devices()[:devices])
    parts = mapped(jax.tree.map(lambda leaf: leaf.reshape(devices, rows, *leaf.shape[1:]), whole))
    joined = [part.reshape(-1, *part.shape[2:]) for part in parts]
    assert_close(joined, list(jax.jit(mixed)(whole)))


def test_what_pmap_exchanges_for_a_group_is_that_groups_examples():
    gathered = [one for one in collectives(trained("pmap", 8, SPREAD).program) if one.kind == "all-gather"]
    # Sixteen rows each of images or hidden values at three places, of the labels, smoothed and not, and of features.
    shapes = [shape.dimensions for one in gathered for shape in one.shapes]
    assert {rows for rows, *_ in shapes} == {16}
    assert len(shapes) <= 6


def test_devices_must_share_a_batch_equally():
    with pytest.raises(
        InputError, match="batch_size is 100, which 8 devices cannot share equally; expected a multiple"
    ):
        check_divisible(100, 8)
    check_divisible(96, 8)


def test_groups_that_are_spread_over_devices_are_known():
    assert splits_groups(128, Method(mixup_alpha=0.2), 8)
    assert not splits_groups(128, Method(mixup_alpha=0.2), 1)
    assert not splits_groups(128, Method(), 8)
    assert not splits_groups(128, Method(mixup_alpha=0.2, group_size=16), 8)
