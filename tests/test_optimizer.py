import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixup_jax.config import OptimizerConfig
from mixup_jax.errors import InputError
from mixup_jax.training.optimizer import bounded_head, make_optimizer

KEYS = jax.random.split(jax.random.key(0), 2)
PARAMS = {"head": {"kernel": jax.random.normal(KEYS[0], (6, 3)), "bias": jnp.zeros(3)}, "body": jnp.ones(4)}


def gradients(step):
    return jax.tree.map(lambda leaf: jax.random.normal(jax.random.fold_in(KEYS[1], step), leaf.shape), PARAMS)


def run(config, steps=4):
    optimizer = make_optimizer(config, lambda step: config.learning_rate)
    params, state = PARAMS, optimizer.init(PARAMS)
    for step in range(steps):
        updates, state = optimizer.update(gradients(step), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def test_adadelta_is_the_update_written_out():
    config = OptimizerConfig(name="adadelta", learning_rate=1.0, weight_decay=0.01)
    x, squares, steps = np.ones(4), np.zeros(4), np.zeros(4)
    for step in range(4):
        g = np.asarray(gradients(step)["body"]) + 0.01 * x
        squares = 0.95 * squares + 0.05 * g**2
        delta = -np.sqrt(steps + 1e-6) / np.sqrt(squares + 1e-6) * g
        steps = 0.95 * steps + 0.05 * delta**2
        x = x + delta
    np.testing.assert_allclose(run(config)["body"], x, rtol=1e-5)


def test_adam_is_the_update_written_out():
    config = OptimizerConfig(name="adam", learning_rate=0.01, weight_decay=0.1)
    x, m, v = np.ones(4), np.zeros(4), np.zeros(4)
    for step in range(4):
        g = np.asarray(gradients(step)["body"]) + 0.1 * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.01 * (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
    np.testing.assert_allclose(run(config)["body"], x, rtol=1e-5)


def test_long_weight_vectors_are_shortened_in_their_direction_and_short_ones_left():
    update = {**PARAMS, "head": {"kernel": jnp.zeros((6, 3)), "bias": jnp.full(3, 9.0)}}
    lengths = np.linalg.norm(PARAMS["head"]["kernel"], axis=0)
    bound = float(np.sort(lengths)[1])
    out, _ = bounded_head(bound).update(update, (), PARAMS)
    kernel = PARAMS["head"]["kernel"] + out["head"]["kernel"]
    np.testing.assert_allclose(kernel, PARAMS["head"]["kernel"] * np.minimum(1, bound / lengths), rtol=1e-5)
    np.testing.assert_array_equal(out["head"]["bias"], 9)
    np.testing.assert_array_equal(out["body"], update["body"])


def test_the_bound_holds_after_every_step_and_zero_switches_it_off():
    free = run(OptimizerConfig(learning_rate=1.0))
    bounded = run(OptimizerConfig(learning_rate=1.0, max_norm=2.0))
    assert np.linalg.norm(free["head"]["kernel"], axis=0).max() > 2.5
    np.testing.assert_allclose(np.linalg.norm(bounded["head"]["kernel"], axis=0).max(), 2, rtol=1e-5)
    np.testing.assert_array_equal(free["body"], bounded["body"])


def test_wrong_settings_are_named():
    with pytest.raises(InputError, match=r"unknown optimizer.name 'adagrad'.*adadelta, adam, sgd"):
        OptimizerConfig(name="adagrad")
    with pytest.raises(InputError, match=r"optimizer.max_norm is -1.0; expected a finite length"):
        OptimizerConfig(max_norm=-1.0)
