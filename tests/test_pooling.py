import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.models import layers


def native(x):
    return nn.max_pool(x, (2, 2), (2, 2), padding="SAME")


def value_and_gradient(pool, x):
    @jax.jit
    def computed(x):
        value, pull = jax.vjp(pool, x)
        # Every window pulls by another number, so that none can be taken for its neighbour.
        return value, *pull(1.0 + jnp.arange(value.size, dtype=value.dtype).reshape(value.shape))

    return computed(x)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
    values=st.sampled_from([2, 100]),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=st.integers(0, 99),
)
def test_pooling_and_its_gradient_are_xlas_ties_included(shape, values, dtype, seed):
    x = jnp.asarray(np.random.default_rng(seed).integers(-values, values, shape), dtype)
    for ours, natives in zip(value_and_gradient(layers.halve, x), value_and_gradient(native, x), strict=True):
        assert ours.dtype == natives.dtype
        np.testing.assert_array_equal(ours, natives)


@pytest.mark.parametrize(("platform", "natively"), [("tpu", True), ("cpu", False)])
def test_only_a_cpu_gets_the_gradient_of_our_own(platform, natively):
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(layers.halve(x))))
    text = gradient.trace(jnp.ones((2, 4, 4, 3))).lower(lowering_platforms=(platform,)).as_text()
    assert ("select_and_scatter" in text) == natively
