import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.models.layers import dropout

KEYS = jax.random.split(jax.random.key(0), 4)
ROWS = jax.random.normal(jax.random.key(1), (4, 5, 3)) + 10


@settings(deadline=None, max_examples=10)
@given(rate=st.floats(0.05, 0.95), layer=st.integers(0, 100))
def test_an_element_is_dropped_or_scaled(rate: float, layer: int):
    out = dropout(ROWS, KEYS, rate=rate, layer=layer)
    np.testing.assert_allclose(out, jnp.where(out == 0, 0, ROWS / (1 - rate)), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_the_mean_over_keys_is_the_input(rate: float):
    out = dropout(jnp.ones((1000, 20)), jax.random.split(jax.random.key(2), 1000), rate=rate, layer=0)
    sigma = np.sqrt(rate / (1 - rate) / out.size)
    assert abs(float(out.mean()) - 1) < 5 * sigma


def test_a_row_is_dropped_by_its_own_key_alone():
    out = dropout(ROWS, KEYS, rate=0.5, layer=3)
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_array_equal(dropout(ROWS[order], KEYS[order], rate=0.5, layer=3), out[order])
    np.testing.assert_array_equal(dropout(ROWS[1:2], KEYS[1:2], rate=0.5, layer=3), out[1:2])
    assert len({(row == 0).tobytes() for row in np.asarray(out)}) == 4


def test_layers_draw_apart():
    masks = {(np.asarray(dropout(ROWS, KEYS, rate=0.5, layer=layer)) == 0).tobytes() for layer in range(5)}
    assert len(masks) == 5


def test_no_keys_or_no_rate_is_no_dropout():
    assert dropout(ROWS, None, rate=0.5, layer=0) is ROWS
    assert dropout(ROWS, KEYS, rate=0.0, layer=0) is ROWS


def test_the_type_stays():
    assert dropout(ROWS.astype(jnp.bfloat16), KEYS, rate=0.5, layer=0).dtype == jnp.bfloat16


def test_every_row_needs_a_key():
    with pytest.raises(ValueError, match=r"keys of shape \(4,\) for rows of shape \(8, 5, 3\)"):
        dropout(jnp.concatenate([ROWS, ROWS]), KEYS, rate=0.5, layer=0)
