from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.errors import InputError
from mixup_jax.methods.mixup import Mixing, _mix_by_gathering, _mix_by_product, draw_mixing, keep_larger, mix, mixup

KEY = jax.random.key(3)
draw = jax.jit(draw_mixing, static_argnums=(1, 2, 3), static_argnames="per_example")
mixup_in_four = jax.jit(partial(mixup, group_size=16), static_argnums=3)


def by_hand(values: np.ndarray, mixing: Mixing) -> np.ndarray:
    groups, size = mixing.lam.shape
    out = np.empty_like(values)
    for g in range(groups):
        for i in range(size):
            lam, j = float(mixing.lam[g, i]), int(mixing.partner[g, i])
            out[g * size + i] = lam * values[g * size + i] + (1 - lam) * values[g * size + j]
    return out


@pytest.mark.parametrize("per_example", [False, True])
def test_mix_is_the_equation_within_groups(per_example: bool):
    mixing = draw(KEY, 4, 16, 0.4, per_example=per_example)
    values = np.random.default_rng(0).normal(size=(64, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(mix(jnp.asarray(values), mixing), by_hand(values, mixing), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per_example", [False, True])
def test_a_product_mixes_as_gathering_does(per_example: bool):
    mixing = draw(KEY, 4, 16, 0.4, per_example=per_example)
    values = np.random.default_rng(0).normal(size=(64, 5, 2)).astype(np.float32)
    product, gathered = jax.jit(_mix_by_product)(values, mixing), jax.jit(_mix_by_gathering)(values, mixing)
    np.testing.assert_allclose(product, gathered, rtol=1e-6, atol=1e-6)
    unmixed = mixing._replace(lam=jnp.ones((4, 16)))
    np.testing.assert_array_equal(jax.jit(_mix_by_product)(values, unmixed), values)


def test_one_lambda_for_a_group_or_one_for_each_example():
    per_group, per_example = draw(KEY, 4, 16, 0.4), draw(KEY, 4, 16, 0.4, per_example=True)
    assert [len(np.unique(row)) for row in per_group.lam] == [1] * 4
    assert [len(np.unique(row)) for row in per_example.lam] == [16] * 4
    assert len(np.unique(per_group.lam)) == 4


def test_partners_are_a_fresh_permutation_in_every_group():
    partner = np.asarray(draw(KEY, 4, 16, 0.4).partner)
    np.testing.assert_array_equal(np.sort(partner, axis=1), np.tile(np.arange(16), (4, 1)))
    assert len({tuple(row) for row in partner}) == 4


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_lambda_follows_the_beta_distribution(alpha: float):
    lam = np.asarray(draw(KEY, 1, 4000, alpha, per_example=True).lam[0])
    assert scipy.stats.kstest(lam, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_group_draws_do_not_depend_on_how_many_groups_there_are():
    few, many = draw(KEY, 2, 16, 0.4), draw(KEY, 4, 16, 0.4)
    np.testing.assert_array_equal(few.lam, many.lam[:2])
    np.testing.assert_array_equal(few.partner, many.partner[:2])


def test_another_key_draws_otherwise():
    one, other = draw(jax.random.key(0), 4, 16, 0.4), draw(jax.random.key(1), 4, 16, 0.4)
    assert not np.array_equal(one.lam, other.lam)


@settings(deadline=None, max_examples=30)
@given(lam=st.floats(0, 1, width=32), seed=st.integers(0, 1000))
def test_mixed_targets_still_sum_to_one_and_stay_in_range(lam: float, seed: int):
    targets = jax.nn.one_hot(jnp.arange(64) % 3, 3)
    mixing = draw(jax.random.key(seed), 4, 16, 0.4)
    mixed = mix(targets, mixing._replace(lam=jnp.full((4, 16), lam)))
    np.testing.assert_allclose(mixed.sum(axis=1), 1, rtol=1e-6)
    assert float(mixed.min()) >= 0


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_lambda_zero_or_one_returns_one_of_the_two_bit_for_bit(lam: float):
    values = jax.random.normal(KEY, (64, 3))
    mixing = draw(KEY, 4, 16, 0.4)
    partner = np.asarray(mixing.partner) + 16 * np.arange(4)[:, None]
    expected = values if lam else values[partner.ravel()]
    np.testing.assert_array_equal(mix(values, mixing._replace(lam=jnp.full((4, 16), lam))), expected)


def test_alpha_zero_returns_the_batch_unchanged():
    inputs, targets = jax.random.normal(KEY, (6, 3)), jax.nn.one_hot(jnp.arange(6), 6)
    mixed_inputs, mixed_targets, mixing = mixup(KEY, inputs, targets, 0.0, group_size=3)
    np.testing.assert_array_equal(mixed_inputs, inputs)
    np.testing.assert_array_equal(mixed_targets, targets)
    np.testing.assert_array_equal(mix(inputs, mixing), inputs)


def test_inputs_and_targets_are_mixed_alike():
    values = jax.random.uniform(KEY, (64, 4))
    mixed_inputs, mixed_targets, mixing = mixup_in_four(KEY, values, values, 0.4)
    np.testing.assert_array_equal(mixed_inputs, mixed_targets)
    np.testing.assert_allclose(mixed_inputs, mix(values, mixing), rtol=1e-6)
    assert mixing.lam.shape == (4, 16)


@pytest.mark.parametrize(("lam", "own"), [(0.7, True), (0.5, True), (0.3, False)])
def test_the_larger_part_gives_the_hard_label(lam: float, own: bool):
    targets = jax.nn.one_hot(jnp.arange(4), 4)
    mixing = Mixing(jnp.full((1, 4), lam), jnp.array([[1, 2, 3, 0]]))
    expected = np.arange(4) if own else np.array([1, 2, 3, 0])
    np.testing.assert_array_equal(np.argmax(keep_larger(targets, mixing), axis=1), expected)
    np.testing.assert_array_equal(keep_larger(targets, mixing).sum(axis=1), 1)


def test_half_precision_inputs_are_mixed_in_float32():
    values = jnp.ones((64, 2), jnp.bfloat16)
    assert mix(values, draw(KEY, 4, 16, 0.4)).dtype == jnp.float32


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_nothing_to_draw_without_a_positive_alpha(alpha: float):
    with pytest.raises(InputError, match="alpha is"):
        draw_mixing(KEY, 1, 4, alpha)


def test_a_batch_must_be_whole_groups():
    with pytest.raises(InputError, match="batch of 6 is no whole number of groups of 4"):
        mixup(KEY, jnp.ones((6, 2)), jnp.ones((6, 2)), 0.2, group_size=4)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("inputs", "targets", "alpha", "message"),
    [
        (np.ones((4, 2), np.float32), np.arange(4), 0.2, r"targets of mixup are int32; .*one_hot\(labels, classes\)"),
        (np.ones((4, 2), np.uint8), np.ones((4, 3), np.float32), 0.2, "inputs of mixup are uint8; expected floating"),
        (np.ones((4, 2), np.float32), np.ones(4, np.float32), 0.2, r"inputs \[4, 2\] and targets \[4\]; .*\[B, K\]"),
        (np.ones((4, 2), np.float32), np.ones((3, 3), np.float32), 0.2, r"inputs \[4, 2\] and targets \[3, 3\]"),
        (np.ones((4, 2), np.float32), np.ones((4, 3), np.float32), float("inf"), "alpha is inf; expected a finite"),
        (np.ones((4, 2), np.float32), np.ones((4, 3), np.float32), float("nan"), "alpha is nan; expected a finite"),
        (np.ones((4, 2), np.float32), np.ones((4, 3), np.float32), -0.1, "alpha is -0.1; expected a finite"),
    ],
)
def test_what_cannot_be_averaged_is_refused_when_traced(
    inputs: np.ndarray, targets: np.ndarray, alpha: float, message: str, compiled: bool
):
    function = jax.jit(mixup, static_argnums=3) if compiled else mixup
    with pytest.raises(InputError, match=message):
        function(KEY, jnp.asarray(inputs), jnp.asarray(targets), alpha)


def test_a_traced_alpha_is_refused_with_what_to_do():
    with pytest.raises(InputError, match="alpha is traced; expected a Python number"):
        jax.jit(mixup)(KEY, jnp.ones((4, 2)), jnp.ones((4, 3)), 0.2)


def test_values_are_as_many_as_the_mixing_has_examples():
    with pytest.raises(InputError, match=r"shape \[3, 2\]; expected 4 rows, in 2 groups of 2"):
        mix(jnp.ones((3, 2)), draw_mixing(KEY, 2, 2, 0.2))
