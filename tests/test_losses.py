import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from mixup_jax.errors import InputError
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


def test_uniform_logits_of_as_many_classes_as_examples_cost_log_k():
    # With targets [B] or [B, 1], which broadcasting would take for rows or columns, this came out as 8.3178.
    np.testing.assert_allclose(losses.cross_entropy(jnp.zeros((4, 4)), jnp.eye(4)), np.log(4), rtol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 4), (4, 5)])
def test_targets_of_another_shape_than_the_logits_are_refused(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"logits \[4, 4\] and targets .*; expected both \[B, K\]"):
        jax.jit(losses.cross_entropy)(jnp.zeros((4, 4)), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("labels", "classes", "epsilon", "over", "message"),
    [
        ([0, 3], 3, 0.1, "all", "labels are from 0 to 3; expected 0 to 2"),
        ([-1, 2], 3, 0.0, "all", "labels are from -1 to 2; expected 0 to 2"),
        ([0.0, 1.0], 3, 0.1, "all", "labels are float32; expected class numbers"),
        ([0, 1], 3, 0.1, "other", "over 'other'; expected 'others' or 'all'"),
        ([0, 1], 3, 1.0, "all", "epsilon of label smoothing is 1.0"),
        ([0, 1], 3, -0.1, "all", "epsilon of label smoothing is -0.1"),
        ([0, 1], 3, float("nan"), "all", "epsilon of label smoothing is nan"),
        ([0, 0], 1, 0.1, "others", "given 1 classes; expected at least 2"),
    ],
)
def test_smoothing_refuses_what_it_has_no_rows_for(
    labels: list[float], classes: int, epsilon: float, over: str, message: str
):
    with pytest.raises(InputError, match=message):
        losses.smoothed_one_hot(jnp.asarray(labels), classes, epsilon, over=over)


def test_checks_add_nothing_to_the_compiled_program():
    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return losses.cross_entropy(logits, losses.smoothed_one_hot(labels, 4, 0.1))

    program = str(jax.make_jaxpr(loss)(LOGITS[:4, :4], LABELS[:4]))
    assert "callback" not in program
    assert "reduce_min" not in program
    known = jnp.array([0, 7, 1, 1])  # a compiled function that closes over labels knows them when it is traced
    with pytest.raises(InputError, match="labels are from 0 to 7"):
        jax.jit(lambda logits: loss(logits, known))(LOGITS[:4, :4])
