from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import create_model

from mixup_jax.methods.mixing import Mix

V, E, MAPS, CLASSES, LENGTH = 11, 4, 3, 2, 6
MODEL = create_model(
    "text_cnn", classes=CLASSES, width=MAPS, filter_widths=(2, 3, 5), dropout=0.5, vocabulary=V, embedding=E
)
TOKENS = jnp.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 0, 0, 0], [7, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], jnp.int32)


def with_biases(variables: Any) -> Any:
    """Biases start at 0, where a window of padding would go unnoticed."""
    keys = iter(jax.random.split(jax.random.key(8), 100))
    return jax.tree.map(lambda leaf: leaf + (leaf.ndim == 1) * jax.random.uniform(next(keys), leaf.shape), variables)


VARIABLES = with_biases(jax.jit(lambda key: MODEL.init(key, TOKENS, train=False))(jax.random.key(0)))
PARAMS = VARIABLES["params"]


@jax.jit
def logits_of(tokens: jax.Array) -> jax.Array:
    return MODEL.apply(VARIABLES, tokens, train=False)


def mixed_by(mix: Mix) -> jax.Array:
    return jax.jit(lambda tokens: MODEL.apply(VARIABLES, tokens, train=True, mix=mix))(TOKENS)


def by_hand(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Logits of one sentence, given its words' vectors `[n, E]`: every window that overlaps it, one by one."""
    features = []
    for size in (2, 3, 5):
        kernel = np.asarray(PARAMS[f"conv_{size}"]["kernel"], np.float64)
        bias = np.asarray(PARAMS[f"conv_{size}"]["bias"], np.float64)
        padded = np.pad(vectors, ((size - 1, size - 1), (0, 0)))
        windows = [padded[start : start + size] for start in range(len(vectors) + size - 1)]
        maps = [np.maximum(np.einsum("we,wem->m", window, kernel) + bias, 0) for window in windows]
        features.append(np.max(maps, axis=0) if len(vectors) else np.zeros(MAPS))
    head = PARAMS["head"]
    return np.concatenate(features) @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"], np.float64)


def vectors_of(tokens: jax.Array) -> npt.NDArray[Any]:
    table = np.asarray(PARAMS["embedding"]["embedding"], np.float64)
    return table[[int(token) for token in tokens if token != 0]]


def test_the_logits_are_those_of_an_independent_implementation():
    np.testing.assert_allclose(logits_of(TOKENS), [by_hand(vectors_of(row)) for row in TOKENS], rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(tokens=st.lists(st.integers(1, V - 1), max_size=8))
def test_more_padding_changes_nothing(tokens: list[int]):
    lengths = [length for length in (5, 6, 12) if length >= len(tokens)]
    logits = [logits_of(jnp.array([tokens + [0] * (length - len(tokens))], jnp.int32)) for length in lengths]
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], rtol=1e-5, atol=1e-6)


def test_a_mixture_is_as_long_as_its_longer_sentence():
    lam, partners = 0.7, jnp.array([1, 2, 0, 3])
    mixed = mixed_by(lambda h, place: lam * h + (1 - lam) * h[partners])
    table = np.asarray(PARAMS["embedding"]["embedding"], np.float64)
    both = lam * table[TOKENS] + (1 - lam) * table[TOKENS[partners]]
    expected = [by_hand(both[0]), by_hand(both[1, :3]), by_hand(both[2]), by_hand(both[3, :0])]
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-6)


def test_a_share_of_all_or_nothing_is_no_mixing():
    np.testing.assert_array_equal(mixed_by(lambda h, place: 1.0 * h + 0.0 * h[::-1]), logits_of(TOKENS))


def test_mixing_is_asked_for_once_on_the_embeddings():
    calls = []

    def double(h: jax.Array, place: int) -> jax.Array:
        calls.append((place, h.shape, h.dtype))
        return jnp.concatenate([h, h])

    shape = jax.eval_shape(lambda: MODEL.apply(VARIABLES, TOKENS, train=True, mix=double))
    assert calls == [(0, (4, LENGTH, E), jnp.float32)]
    assert (MODEL.places, shape.shape) == (0, (8, CLASSES))


def test_the_table_is_a_parameter_whose_row_of_padding_is_inert():
    table = PARAMS["embedding"]["embedding"]
    assert (table.shape, table.dtype) == ((V, E), jnp.float32)
    assert float(jnp.abs(table[0]).max()) == 0 < float(jnp.abs(table[1:]).min())

    @jax.jit
    @jax.value_and_grad
    def loss(vectors: jax.Array) -> jax.Array:
        params = {**PARAMS, "embedding": {"embedding": vectors}}
        return jnp.sum(MODEL.apply({"params": params}, TOKENS, train=False) ** 2)

    replaced = table.at[0].set(7.0)
    value, gradient = loss(replaced)
    assert float(value) == float(loss(table)[0]) != float(loss(table + 1)[0])
    used = jnp.isin(jnp.arange(V), TOKENS[TOKENS != 0])
    np.testing.assert_array_equal(jnp.any(gradient != 0, axis=1), used)


def test_dropout_is_active_where_keys_are_given():
    keys = jax.random.split(jax.random.key(3), 4)
    apply = jax.jit(lambda keys: MODEL.apply(VARIABLES, TOKENS, train=False, dropout_keys=keys))
    one, again, other = apply(keys), apply(keys), apply(keys[::-1])
    np.testing.assert_array_equal(one, again)
    assert np.all(np.any(one[:3] != other[:3], axis=1))
    assert np.all(np.any(one[:3] != logits_of(TOKENS)[:3], axis=1))


def test_an_unknown_token_is_loud():
    assert bool(jnp.isnan(logits_of(jnp.array([[1, V, 2]], jnp.int32))).all())


def test_logits_and_table_are_float32_in_bfloat16():
    model = create_model("text_cnn", classes=2, width=3, dtype="bfloat16", vocabulary=V, embedding=E)
    logits, variables = jax.eval_shape(lambda key: model.init_with_output(key, TOKENS, train=False), jax.random.key(0))
    assert {leaf.dtype for leaf in (logits, *jax.tree.leaves(variables))} == {jnp.dtype("float32")}


def test_kims_network_has_its_closed_form_of_parameters():
    model = create_model("text_cnn", classes=6, width=100, vocabulary=1000, embedding=300)
    shapes = jax.eval_shape(lambda key: model.init(key, TOKENS, train=False), jax.random.key(0))
    table, filters, head = 1000 * 300, (3 + 4 + 5) * 300 * 100 + 3 * 100, 3 * 100 * 6 + 6
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == table + filters + head


@pytest.mark.parametrize("length", [1, 2])
def test_a_batch_shorter_than_the_filters_is_taken(length: int):
    np.testing.assert_allclose(
        logits_of(TOKENS[:2, :length]), [by_hand(vectors_of(row[:length])) for row in TOKENS[:2]], rtol=1e-4, atol=1e-6
    )
