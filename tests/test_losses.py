import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from mixup_jax.methods import losses
from mixup_jax.methods.mixup import draw_mixing, mix

LOGITS = np.random.default_rng(0).normal(0, 4, (16, 10)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 10, 16)


@pytest.mark.parametrize("over", ["others", "all"])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_smoothed_rows_sum_to_one(over: str, epsilon: float):
    np.testing.assert_allclose(losses.smoothed_one_hot(LABELS, 10, epsilon, over=over).sum(axis=1), 1, rtol=1e-6)


def test_no_smoothing_is_one_hot_bit_for_bit():
    np.testing.assert_array_equal(losses.smoothed_one_hot(LABELS, 10, 0.0), np.eye(10)[LABELS])


def test_smoothing_over_the_others_is_the_papers_and_over_all_is_optaxs():
    row = np.asarray(losses.smoothed_one_hot(jnp.array([2]), 10, 0.1, over="others"))[0]
    np.testing.assert_allclose(row, np.where(np.arange(10) == 2, 0.9, 0.1 / 9), rtol=1e-6)
    over_all = losses.smoothed_one_hot(LABELS, 10, 0.1, over="all")
    np.testing.assert_allclose(over_all, optax.smooth_labels(jax.nn.one_hot(LABELS, 10), 0.1), rtol=1e-6)


def test_cross_entropy_equals_scipys_and_optaxs():
    targets = losses.smoothed_one_hot(LABELS, 10, 0.2)
    expected = -(np.asarray(targets, np.float64) * scipy.special.log_softmax(LOGITS.astype(np.float64), axis=1)).sum(1)
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, targets), expected, rtol=1e-5)
    np.testing.assert_allclose(
        losses.cross_entropy(LOGITS, targets), optax.softmax_cross_entropy(LOGITS, targets), rtol=1e-6
    )


def test_entropy_equals_scipys_and_is_at_most_log_k():
    expected = scipy.stats.entropy(scipy.special.softmax(LOGITS.astype(np.float64), axis=1), axis=1)
    np.testing.assert_allclose(losses.entropy(LOGITS), expected, rtol=1e-4)
    np.testing.assert_allclose(losses.entropy(jnp.zeros((1, 7))), np.log(7), rtol=1e-6)


def test_mixing_labels_is_mixing_losses_for_cross_entropy():
    mixing = draw_mixing(jax.random.key(0), 2, 8, 1.0)
    targets = losses.smoothed_one_hot(LABELS, 10, 0.1)
    partner = np.asarray(mixing.partner) + np.array([[0], [8]])
    own, other = losses.cross_entropy(LOGITS, targets), losses.cross_entropy(LOGITS, targets[partner.ravel()])
    lam = np.asarray(mixing.lam).ravel()
    np.testing.assert_allclose(
        losses.cross_entropy(LOGITS, mix(targets, mixing)), lam * own + (1 - lam) * other, rtol=1e-5
    )


def test_losses_leave_half_precision_and_keep_double():
    half = jnp.asarray([[30.0, 0.0]], jnp.bfloat16)
    assert losses.entropy(half).dtype == jnp.float32
    assert float(losses.entropy(half)[0]) > 0
    with jax.enable_x64(True):
        assert losses.entropy(jnp.zeros((1, 2), jnp.float64)).dtype == jnp.float64
