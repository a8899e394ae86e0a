"""Folded normalisation against the layers that it stands for: values, running statistics and gradients."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixup_jax.models import folded
from mixup_jax.models.layers import Layers


class Folded(nn.Module):
    pool: bool
    dtype: Any = jnp.float64
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        way = folded.conv_norm_pool if self.pool else folded.conv_norm
        return way(Layers(train, self.dtype, self.axis_name), x, 6, names=("conv", "norm"))


class Plain(nn.Module):
    pool: bool
    dtype: Any = jnp.float64

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        size, stride = (7, 2) if self.pool else (1, 1)
        make = Layers(train, self.dtype)
        y = make.norm(name="norm")(make.conv(6, size, stride, name="conv")(x))
        return nn.max_pool(nn.relu(y), (3, 3), (2, 2), padding="SAME") if self.pool else y


def result(model: nn.Module, x: jax.Array, variables: Any, train: bool = True) -> Any:
    """The output, the new statistics, and the gradients of a sum of the output by random weights."""

    def weighed(params: Any, x: jax.Array) -> Any:
        made, new = model.apply({**variables, "params": params}, x, train, mutable=["batch_stats"])
        # Their mean is what the gradient of a normalisation must cancel.
        weights = np.random.default_rng(1).normal(1, 1, made.shape).astype(x.dtype)
        return jnp.sum(made.astype(weights.dtype) * weights), (made, new)

    gradients, outputs = jax.grad(weighed, (0, 1), has_aux=True)(variables["params"], x)
    return outputs, gradients


def drawn(pool: bool, shape: tuple[int, ...]) -> tuple[jax.Array, Any]:
    """Positive inputs, as a ReLU leaves them, and variables whose scales are of both signs.

    Without pooling one is 0; with it that is a kink, where either layer has a gradient of its own.
    """
    x = jax.random.uniform(jax.random.key(2), shape, dtype=jnp.float64)
    variables = Plain(pool).init(jax.random.key(3), x, False)
    norm = {"scale": jnp.array([1.0, -0.5, 2.0, 0.1 if pool else 0.0, -1.0, 0.3]), "bias": jnp.linspace(-1.0, 1.0, 6)}
    statistics = {"norm": {"mean": jnp.linspace(-1.0, 1.0, 6), "var": jnp.linspace(0.5, 2.0, 6)}}
    variables = {"params": {**variables["params"], "norm": norm}, "batch_stats": statistics}
    return x, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("pool", [False, True])
def test_folded_layers_are_the_layers_that_they_stand_for(pool: bool, train: bool):
    with jax.enable_x64(True):
        x, variables = drawn(pool, (3, 9, 8, 5))
        expected, found = (jax.jit(partial(result, make(pool), train=train))(x, variables) for make in (Plain, Folded))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected)


def test_folded_layers_have_the_parameters_of_those_that_they_stand_for():
    x = jnp.ones((1, 8, 8, 5))
    for pool in (False, True):
        models = (make(pool, jnp.float32) for make in (Plain, Folded))
        plain, made = (jax.eval_shape(partial(model.init, train=False), jax.random.key(0), x) for model in models)
        assert jax.tree.structure(plain) == jax.tree.structure(made)
        assert [leaf.shape for leaf in jax.tree.leaves(plain)] == [leaf.shape for leaf in jax.tree.leaves(made)]


@pytest.mark.parametrize("pool", [False, True])
def test_devices_normalise_by_the_whole_batch(pool: bool):
    def weighed(model: nn.Module, params: Any, x: jax.Array, weights: jax.Array) -> Any:
        made, new = model.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
        return jnp.sum(made * weights), (made, new)

    with jax.enable_x64(True):
        x, variables = drawn(pool, (4, 9, 8, 5))
        weights = 1 + jax.random.normal(jax.random.key(4), (4, *((3, 2) if pool else (9, 8)), 6))
        gradient = jax.grad(partial(weighed, Folded(pool)), (0, 1), has_aux=True)
        expected = jax.jit(gradient)(variables["params"], x, weights)
        shared = jax.grad(partial(weighed, Folded(pool, axis_name="batch")), (0, 1), has_aux=True)
        halves = [array.reshape(2, 2, *array.shape[1:]) for array in (x, weights)]
        mapped = jax.vmap(shared, (None, 0, 0), ((0, 0), (0, None)), axis_name="batch")
        (of_params, of_x), (made, new) = jax.jit(mapped)(variables["params"], *halves)
        summed = jax.tree.map(lambda parts: parts.sum(0), of_params)
        found = (summed, of_x.reshape(x.shape)), (made.reshape(weights.shape), new)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected)


def test_in_bfloat16_the_gradient_is_as_exact_as_that_of_the_plain_layers():
    with jax.enable_x64(True):
        x, variables = drawn(False, (16, 14, 14, 32))
        exact = jax.jit(partial(result, Plain(False)))(x, variables)[1]
    x, variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (x, variables))

    def error(model: nn.Module) -> list[float]:
        gradients = jax.jit(partial(result, model))(x, variables)[1]
        pairs = zip(jax.tree.leaves(gradients), jax.tree.leaves(exact), strict=True)
        return [float(np.linalg.norm(one - np.asarray(other)) / np.linalg.norm(other)) for one, other in pairs]

    plain, made = error(Plain(False, jnp.bfloat16)), error(Folded(False, jnp.bfloat16))
    assert all(ours < 2 * theirs + 1e-3 for ours, theirs in zip(made, plain, strict=True)), (made, plain)


def test_the_rectifier_has_no_gradient_where_it_is_zero():
    x = jnp.array([-1.0, 0.0, 2.0])
    value, pull = jax.vjp(folded.relu, x)
    np.testing.assert_array_equal(value, [0, 0, 2])
    np.testing.assert_array_equal(pull(jnp.ones(3))[0], [0, 0, 1])
