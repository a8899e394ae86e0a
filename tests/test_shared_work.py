"""No device does another's part of the network, however groups lie on the devices: counted in programs for a TPU.

On other platforms the partitioner has divided it all along; there the laws of test_parallel.py suffice.
"""

import importlib.util
import os
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.ahead.record import MOST_WORK
from mixup_jax.ahead.topology import LIBTPU, find_target
from mixup_jax.config import Config, DataConfig
from mixup_jax.data.feed import StreamedFeed
from mixup_jax.devices.mesh import AXIS
from mixup_jax.methods.method import VARIANTS, Method
from mixup_jax.methods.mixing import Mix, unmixed
from mixup_jax.state import run_keys
from mixup_jax.training.optimizer import with_classes
from mixup_jax.training.step import make_step, make_train_step
from mixup_jax.training.trainer import initial_state

DEVICES, ROWS, SIDE, WIDTH, CLASSES = 8, 4, 8, 64, 10
METHODS = {name: variant.method for name, variant in VARIANTS.items() if variant.method.mixes} | {
    "clean, hidden": Method(mixup_alpha=2.0, layer="random", clean_weight=0.5),
    "clean, cut": Method(mixup_alpha=1.0, cut=True, clean_weight=0.5, scope="example"),
}
ON_TEXT = ("mixup", "manifold_mixup", "clean, hidden")
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"),
    pytest.mark.xdist_group("tpu"),
]


class Network(nn.Module):
    """A network whose work is its convolution of WIDTH by WIDTH channels and a product, with a place before each."""

    text: bool = False
    places = 2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, mix: Mix | None = None, dropout_keys: Any = None) -> jax.Array:
        mix = mix or unmixed
        x = mix(nn.Embed(100, WIDTH)(x) if self.text else x, 0)
        x = mix(nn.relu(nn.Conv(WIDTH, (3,) * (x.ndim - 2))(x)), 1)
        x = mix(nn.relu(nn.Conv(WIDTH, (3,) * (x.ndim - 2))(x)), 2)
        return nn.Dense(CLASSES)(x.mean(axis=tuple(range(1, x.ndim - 1))))


@lru_cache
def mesh() -> Mesh:
    os.environ.update({name: os.environ.get(name, value) for name, value in LIBTPU.items()})
    return find_target("v5e:4x2").mesh


def flops(method: Method, mesh: Mesh, batch: int, text: bool) -> float:
    """Returns what the compiler counts of a training step on one device."""
    network, optimizer = Network(text), optax.sgd(0.1)
    optimizer = with_classes(optimizer, CLASSES) if method.adapt_classes else optimizer
    shape = (SIDE * SIDE,) if text else (SIDE, SIDE, 3)
    train_step = make_train_step(
        network, optimizer, method, classes=CLASSES, standardise=lambda x: x if text else x / 255.0, mesh=mesh
    )
    feed = StreamedFeed(Config(batch_size=batch, data=DataConfig(flip=False, crop_padding=0)))
    step = make_step(train_step, feed, mesh, parallel="jit")

    def placed(tree: Any, *axes: str) -> Any:
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)

    keys = jax.eval_shape(run_keys, 0)
    initialise = partial(initial_state, network, optimizer, input_shape=shape)
    inputs = jax.ShapeDtypeStruct((batch, *shape), jnp.int32 if text else jnp.uint8)
    arguments = (
        placed(jax.eval_shape(initialise, jax.random.key(0))),
        *placed((inputs, jax.ShapeDtypeStruct((batch,), jnp.int32)), AXIS),
        placed((keys.augment, keys.step)),
    )
    compiled = step.function.lower(*step.first, *arguments).compile()
    # Features for distances come from one more forward pass, half the work of the backward one.
    return float(compiled.cost_analysis()["flops"]) / (4 / 3 if method.looks_first else 1)


@lru_cache
def alone(rows: int, text: bool) -> float:
    """Returns the FLOPs of a step without mixing, of so many rows on one device."""
    return flops(Method(), Mesh(mesh().devices.flat[:1], (AXIS,)), rows, text)


@pytest.mark.parametrize(("name", "text"), [*((name, False) for name in METHODS), *((name, True) for name in ON_TEXT)])
def test_a_group_that_spans_devices_leaves_each_its_own_part_of_the_network(name: str, text: bool):
    method = METHODS[name]
    # One group of all rows, an eighth of them on each device.
    assert flops(method, mesh(), DEVICES * ROWS, text) < MOST_WORK * alone(ROWS * method.copies, text)


def test_groups_that_lie_on_one_device_each_take_no_other_to_mix():
    method = replace(METHODS["clean, hidden"], group_size=ROWS)
    assert flops(method, mesh(), DEVICES * ROWS, text=False) < MOST_WORK * alone(ROWS * method.copies, text=False)
