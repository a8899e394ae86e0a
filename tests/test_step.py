from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_networks import Linear

from mixup_jax.methods import losses
from mixup_jax.methods.method import Method
from mixup_jax.methods.mixing import mix_batch
from mixup_jax.state import Batch, TrainState, run_keys
from mixup_jax.training.step import make_train_step
from mixup_jax.training.trainer import initial_state

CLASSES = 4
KEYS = run_keys(0)
BATCH = Batch(
    jnp.asarray(np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1), dtype=np.uint8)),
    jnp.asarray(np.random.default_rng(1).integers(0, CLASSES, 16), jnp.int32),
    jnp.ones(16),
)


OPTIMIZER = optax.sgd(0.1)
STATE = initial_state(Linear(CLASSES), OPTIMIZER, KEYS.init, input_shape=(4, 4, 1))


def scaled(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255


def one_step(
    method: Method, batch: Batch = BATCH, state: TrainState = STATE
) -> tuple[TrainState, dict[str, jax.Array]]:
    step = make_train_step(Linear(CLASSES), OPTIMIZER, method, classes=CLASSES, standardise=scaled)
    return jax.jit(step)(state, batch, KEYS.step)


def assert_same_params(one: TrainState, other: TrainState) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), one.params, other.params)


def test_the_step_is_gradient_descent_on_the_mean_loss():
    def loss(params: object) -> jax.Array:
        logits, _ = Linear(CLASSES).apply(
            {"params": params, "batch_stats": STATE.batch_stats},
            scaled(BATCH.inputs),
            train=True,
            mutable=["batch_stats"],
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, BATCH.labels).mean()

    value, gradient = jax.value_and_grad(loss)(STATE.params)
    state, metrics = one_step(Method())
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    assert_same_params(state, STATE._replace(params=jax.tree.map(lambda p, g: p - 0.1 * g, STATE.params, gradient)))
    assert int(state.step) == 1
    assert float(metrics["mixing"]) == 0


@pytest.mark.parametrize(
    "method",
    [
        Method(mixup_alpha=0.0, label_smoothing=0.0, entropy_weight=0.0),
        Method(mixup_alpha=0.4, mix_inputs=False, mix_labels=False),
    ],
)
def test_every_number_at_zero_is_erm_bit_for_bit(method: Method):
    jax.tree.map(np.testing.assert_array_equal, one_step(method), one_step(Method()))


def test_vanishing_alpha_tends_to_erm():
    # lambda is 0 or 1 almost surely: the batch is itself or permuted, and so is its mean loss.
    mixed, _ = one_step(Method(mixup_alpha=1e-4))
    assert_same_params(mixed, one_step(Method())[0])


def test_padding_counts_for_nothing():
    padded = Batch(
        jnp.concatenate([BATCH.inputs, BATCH.inputs]),
        jnp.concatenate([BATCH.labels, (BATCH.labels + 1) % CLASSES]),
        jnp.concatenate([jnp.ones(16), jnp.zeros(16)]),
    )
    # The padding repeats the images, so that batch normalisation sees the same moments.
    (state, metrics), (expected, expected_metrics) = one_step(Method(), padded), one_step(Method())
    assert_same_params(state, expected)
    np.testing.assert_allclose(metrics["accuracy_mixed"], expected_metrics["accuracy_mixed"])


def test_the_draws_change_with_the_step_and_only_with_it():
    method = Method(mixup_alpha=1.0)
    (_, first), (_, again) = one_step(method), one_step(method)
    _, later = one_step(method, state=STATE._replace(step=STATE.step + 1))
    assert first["mixing"] == again["mixing"]
    assert first["mixing"] != later["mixing"]


def mixed(method: Method) -> tuple[np.ndarray, np.ndarray]:
    out = mix_batch(method, BATCH, jax.random.key(5), classes=CLASSES)
    return np.asarray(out.mix(scaled(BATCH.inputs), 0)), np.asarray(out.targets)


def test_feature_only_mixing_mixes_inputs_and_keeps_a_hard_label():
    both_inputs, both_targets = mixed(Method(mixup_alpha=1.0))
    inputs, targets = mixed(Method(mixup_alpha=1.0, mix_labels=False))
    np.testing.assert_array_equal(inputs, both_inputs)
    np.testing.assert_array_equal(np.sort(targets, axis=1), np.tile([0, 0, 0, 1], (16, 1)))
    decided = both_targets.max(axis=1) > 0.5
    assert decided.any()
    np.testing.assert_array_equal(targets.argmax(1)[decided], both_targets.argmax(1)[decided])


def test_label_only_mixing_leaves_the_inputs():
    inputs, targets = mixed(Method(mixup_alpha=1.0, mix_inputs=False))
    np.testing.assert_array_equal(inputs, scaled(BATCH.inputs))
    np.testing.assert_array_equal(targets, mixed(Method(mixup_alpha=1.0))[1])


def test_smoothing_and_mixing_combine_linearly():
    _, targets = mixed(Method(mixup_alpha=1.0))
    _, smoothed = mixed(Method(mixup_alpha=1.0, label_smoothing=0.2, smooth_over="all"))
    np.testing.assert_allclose(smoothed, 0.8 * targets + 0.05, rtol=1e-5)


def test_the_entropy_term_is_subtracted_per_example():
    def logits_of(state: TrainState) -> jax.Array:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return Linear(CLASSES).apply(variables, scaled(BATCH.inputs), train=True, mutable=["batch_stats"])[0]

    (_, with_term), (_, without) = one_step(Method(entropy_weight=0.3)), one_step(Method())
    expected = without["loss"] - 0.3 * losses.entropy(logits_of(STATE)).mean()
    np.testing.assert_allclose(with_term["loss"], expected, rtol=1e-5)
