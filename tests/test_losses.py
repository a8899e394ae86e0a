import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from mixup_jax.errors import InputError
from mixup_jax.methods import losses
from mixup_jax.methods.method import VARIANTS, Method
from mixup_jax.methods.mixing import unmixed
from mixup_jax.methods.mixup import draw_mixing, mix
from mixup_jax.state import Mixed

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


HARD = np.eye(10, dtype=np.float32)[LABELS]
P = scipy.special.softmax(LOGITS.astype(np.float64), axis=1)
CONFIDENCE, CORRECT = P.max(axis=1), P.argmax(axis=1) == LABELS


def loss_of(method: Method, logits: np.ndarray = LOGITS, labels: np.ndarray = LABELS) -> jax.Array:
    """The loss of a batch that is not mixed."""
    hard = jnp.eye(10)[labels]
    n = len(labels)
    return losses.batch_loss(method, logits, Mixed(unmixed, hard, hard, jnp.ones(n), jnp.zeros(())), jnp.asarray(n))


@pytest.mark.parametrize("dual", [False, True])
def test_focal_losses_equal_their_formulae_on_hard_labels_and_are_linear_in_soft_ones(dual: bool):
    own = P[np.arange(16), LABELS]
    lower = [max([p for p in row if p < q], default=0.0) if dual else 0.0 for row, q in zip(P, own, strict=True)]
    expected = -((1 - own + lower) ** 3) * np.log(own)
    np.testing.assert_allclose(losses.focal(LOGITS, HARD, 3.0, dual=dual), expected, rtol=1e-4)
    soft = 0.3 * HARD + 0.7 * HARD[::-1]
    parts = (0.3 * losses.focal(LOGITS, HARD, 2.0, dual=dual), 0.7 * losses.focal(LOGITS, HARD[::-1], 2.0, dual=dual))
    np.testing.assert_allclose(losses.focal(LOGITS, soft, 2.0, dual=dual), sum(parts), rtol=1e-5)


def test_focal_losses_without_gamma_are_cross_entropy_bit_for_bit_and_dual_on_equal_probabilities_is_focal():
    expected = losses.cross_entropy(LOGITS, HARD)
    for dual in (False, True):
        np.testing.assert_array_equal(losses.focal(LOGITS, HARD, 0.0, dual=dual), expected)
    even = jnp.zeros((16, 10))
    np.testing.assert_array_equal(losses.focal(even, HARD, 2.0, dual=True), losses.focal(even, HARD, 2.0))


@pytest.mark.parametrize("name", ["focal", "dual_focal", "mbls", "logit_norm", "mmce", "mdca", "brier"])
def test_the_gradient_is_finite_where_the_softmax_is_0_and_1_and_where_all_logits_are_equal(name: str):
    for logits in (1e4 * HARD, -1e4 * HARD, 0 * HARD):
        assert np.isfinite(jax.grad(lambda z: loss_of(VARIANTS[name].method, z))(jnp.asarray(logits))).all()


def test_the_brier_loss_is_the_brier_score_and_mixing_its_labels_moves_it_by_a_constant():
    np.testing.assert_allclose(loss_of(Method(brier_weight=1.0)), ((P - HARD) ** 2).sum(1).mean(), rtol=1e-5)
    half = loss_of(Method(brier_weight=0.5))
    np.testing.assert_allclose(half, (loss_of(Method()) + loss_of(Method(brier_weight=1.0))) / 2, rtol=1e-6)

    def slope(targets: np.ndarray) -> jax.Array:
        method = Method(brier_weight=1.0)
        return jax.grad(lambda z: losses.example_loss(method, z, jnp.asarray(targets)).sum())(LOGITS)

    mixed = slope(0.3 * HARD + 0.7 * HARD[::-1])
    np.testing.assert_allclose(mixed, 0.3 * slope(HARD) + 0.7 * slope(HARD[::-1]), atol=1e-6)


def test_a_margin_beyond_all_logits_is_erm_and_without_margin_it_smooths_the_labels_of_what_is_right():
    widest = float(np.ptp(LOGITS, axis=1).max())
    np.testing.assert_array_equal(loss_of(Method(margin_weight=0.1, margin=widest)), loss_of(Method()))
    excess = np.maximum(LOGITS.max(1, keepdims=True) - LOGITS - 3, 0)
    assert 0.1 < (excess > 0).mean() < 0.9
    expected = loss_of(Method()) + 0.2 * excess.mean()
    np.testing.assert_allclose(loss_of(Method(margin_weight=0.2, margin=3.0)), expected, rtol=1e-5)
    # Where the largest logit is the label's, max-suppression is label smoothing over all classes; else it is not.
    right = LOGITS.argmax(1)
    smoothed = Method(label_smoothing=0.1, smooth_over="all")
    targets = losses.smoothed_one_hot(right, 10, 0.1, over="all")
    expected = losses.example_loss(smoothed, LOGITS, targets)
    np.testing.assert_allclose(
        losses.example_loss(VARIANTS["max_suppression"].method, LOGITS, jnp.eye(10)[right]), expected, rtol=1e-4
    )


def test_normalised_logits_have_no_scale_and_of_norm_one_over_tau_they_are_the_logits():
    method = Method(logit_norm=0.04)
    np.testing.assert_allclose(loss_of(method, 7 * LOGITS), loss_of(method), rtol=1e-5)
    unit = LOGITS / np.linalg.norm(LOGITS, axis=1, keepdims=True)
    np.testing.assert_allclose(loss_of(method, 25 * unit), loss_of(Method(), 25 * unit), rtol=1e-5)
    slope = jax.grad(lambda z: loss_of(method, z))(jnp.asarray(LOGITS))
    np.testing.assert_allclose((slope * LOGITS).sum(1), 0, atol=1e-6)


def test_mdca_is_the_mean_gap_by_class_and_sees_only_how_often_a_class_is_there():
    term = loss_of(Method(mdca_weight=1.0)) - loss_of(Method())
    np.testing.assert_allclose(term, np.abs(P.mean(0) - HARD.mean(0)).mean(), rtol=1e-4)
    permuted = LABELS[::-1]
    assert (permuted != LABELS).any()
    other = loss_of(Method(mdca_weight=1.0), labels=permuted) - loss_of(Method(), labels=permuted)
    np.testing.assert_allclose(other, term, rtol=1e-4)


def test_mmce_equals_its_double_sum_and_at_equal_confidences_is_the_root_of_the_squared_gap_of_arc():
    error = CORRECT - CONFIDENCE
    kernel = np.exp(-np.abs(CONFIDENCE[:, None] - CONFIDENCE) / 0.4)
    expected = np.sqrt((error[:, None] * error * kernel).mean())
    np.testing.assert_allclose(loss_of(Method(mmce_weight=1.0)) - loss_of(Method()), expected, rtol=1e-4)

    def double_sum(z: jax.Array) -> jax.Array:
        r = jax.nn.softmax(z).max(axis=1)
        e = jnp.asarray(CORRECT) - r
        return jnp.sqrt(jnp.mean(e[:, None] * e * jnp.exp(-jnp.abs(r[:, None] - r) / 0.4)))

    slope = jax.grad(lambda z: loss_of(Method(mmce_weight=1.0), z) - loss_of(Method(), z))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(slope, jax.grad(double_sum)(jnp.asarray(LOGITS)), rtol=1e-3, atol=1e-6)
    even = np.stack([np.roll(LOGITS[0], shift) for shift in range(16)])
    terms = [
        loss_of(method, even) - loss_of(Method(), even) for method in (Method(mmce_weight=1.0), Method(arc_weight=1.0))
    ]
    np.testing.assert_allclose(terms[0], np.sqrt(terms[1]), rtol=1e-4)
