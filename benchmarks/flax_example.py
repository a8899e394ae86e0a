"""The step of the flax ImageNet example, compiled for v5e 2x2 as `mixup_jax.compile_ahead` compiles ours.

    python benchmarks/flax_example.py

writes docs/results/scaling/flax-example.json. The network is that example's ResNet-50 v1.5 in bfloat16 with
momentum, L2 regularisation in the loss and images that the host has standardised, under jit with synchronised batch
normalisation.
"""

import json
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from scaling import PER_CHIP, RECORDS

from mixup_jax.ahead.program import compile_program
from mixup_jax.ahead.record import program_record
from mixup_jax.ahead.topology import find_target, set_up

FORWARD_FLOPS = 7.98e9
"""Of ResNet-50 on one image of 224 x 224, as `ahead.compile.forward_flops` counts them."""
CLASSES = 1000


class Block(nn.Module):
    """A bottleneck."""

    filters: int
    conv: Any
    norm: Any
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the block's output."""
        y = nn.relu(self.norm()(self.conv(self.filters, (1, 1))(x)))
        y = nn.relu(self.norm()(self.conv(self.filters, (3, 3), (self.stride, self.stride))(y)))
        y = self.norm(scale_init=nn.initializers.zeros)(self.conv(4 * self.filters, (1, 1))(y))
        if x.shape != y.shape:
            x = self.norm()(self.conv(4 * self.filters, (1, 1), (self.stride, self.stride))(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """The network."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits."""
        conv = partial(nn.Conv, use_bias=False, dtype=jnp.bfloat16)
        norm = partial(nn.BatchNorm, use_running_average=False, momentum=0.9, epsilon=1e-5, dtype=jnp.bfloat16)
        x = nn.relu(norm()(conv(64, (7, 7), (2, 2), padding=[(3, 3), (3, 3)])(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                x = Block(64 * 2**stage, conv, norm, 2 if stage > 0 and block == 0 else 1)(x)
        return nn.Dense(CLASSES, dtype=jnp.bfloat16)(jnp.mean(x, axis=(1, 2)))


def step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
    """Takes a training step."""
    params, statistics, momentum = state

    def loss_of(params: Any) -> Any:
        logits, new = ResNet50().apply({"params": params, "batch_stats": statistics}, images, mutable=["batch_stats"])
        loss = jnp.mean(optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, CLASSES)))
        decayed = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
        return loss + 0.5e-4 * decayed, (logits, new["batch_stats"])

    (loss, (logits, new)), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, momentum = optimizer().update(gradient, momentum, params)
    accuracy = jnp.mean(jnp.argmax(logits, -1) == labels)
    return (optax.apply_updates(params, updates), new, momentum), {"loss": loss, "accuracy": accuracy}


def optimizer() -> optax.GradientTransformation:
    """Returns the optimiser."""
    return optax.sgd(optax.cosine_decay_schedule(0.4, 100_000), momentum=0.9, nesterov=True)


def first_state(key: jax.Array) -> Any:
    """Returns the state before the first step."""
    variables = ResNet50().init(key, jnp.ones((1, 224, 224, 3), jnp.bfloat16))
    return variables["params"], variables["batch_stats"], optimizer().init(variables["params"])


def main() -> None:
    """Compiles the step and writes its record."""
    set_up("v5e:2x2")
    target = find_target("v5e:2x2")
    whole, rows = (NamedSharding(target.mesh, PartitionSpec(*axes)) for axes in ((), target.mesh.axis_names))
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
        jax.eval_shape(first_state, jax.random.key(0)),
    )
    batch = PER_CHIP * target.mesh.devices.size
    images = jax.ShapeDtypeStruct((batch, 224, 224, 3), jnp.bfloat16, sharding=rows)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=rows)
    lowered = jax.jit(step, donate_argnums=0, out_shardings=whole).lower(state, images, labels)
    record = program_record(compile_program(lowered, PER_CHIP), target, 3 * FORWARD_FLOPS * PER_CHIP)
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / "flax-example.json").write_text(json.dumps({"steps": {"train": record}}, indent=1) + "\n")
    print(f"{record['cycles'] / 1e6:.1f} M cycles, {record['accessed'] / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
