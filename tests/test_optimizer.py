import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixup_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig
from mixup_jax.errors import InputError
from mixup_jax.state import TrainState
from mixup_jax.training.optimizer import average_of, bounded_head, logged_rate, make_optimizer
from mixup_jax.training.trainer import check_config, count_steps

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


def test_adamw_is_the_update_written_out():
    config = OptimizerConfig(name="adamw", learning_rate=0.01, weight_decay=0.1)
    x, m, v = np.ones(4), np.zeros(4), np.zeros(4)
    for step in range(4):
        g = np.asarray(gradients(step)["body"])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.01 * (m / (1 - 0.9 ** (step + 1)) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8) + 0.1 * x)
    np.testing.assert_allclose(run(config)["body"], x, rtol=1e-5)


def test_lion_is_the_update_written_out():
    x, m = np.ones(4), np.zeros(4)
    for step in range(4):
        g = np.asarray(gradients(step)["body"])
        x = x - 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * x)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(
        run(OptimizerConfig(name="lion", learning_rate=0.01, weight_decay=0.1))["body"], x, rtol=1e-5
    )


def test_lamb_is_the_update_written_out():
    x, m, v = np.ones(4), np.zeros(4), np.zeros(4)
    for step in range(4):
        g = np.asarray(gradients(step)["body"])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = m / (1 - 0.9 ** (step + 1)) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-6) + 0.1 * x
        x = x - 0.01 * np.linalg.norm(x) / np.linalg.norm(u) * u
    np.testing.assert_allclose(
        run(OptimizerConfig(name="lamb", learning_rate=0.01, weight_decay=0.1))["body"], x, rtol=1e-4
    )


def test_a_long_gradient_is_scaled_before_everything_else():
    plain = OptimizerConfig(momentum=0.0, weight_decay=0.0, learning_rate=0.5)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradients(0))))
    moved = run(dataclasses.replace(plain, clip_norm=norm / 4), steps=1)
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(new, old - 0.5 * g / 4, rtol=1e-5), moved, PARAMS, gradients(0)
    )
    jax.tree.map(
        np.testing.assert_array_equal, run(dataclasses.replace(plain, clip_norm=2 * norm), steps=1), run(plain, steps=1)
    )


def test_accumulated_batches_are_one_update_of_their_mean_at_the_rate_of_the_first():
    config = OptimizerConfig(name="adamw", weight_decay=0.1, accumulate=2)
    optimizer, seen = make_optimizer(config, lambda step: 0.1 / (1 + step)), []
    params, state = PARAMS, optimizer.init(PARAMS)
    for step in range(5):
        updates, state = optimizer.update(gradients(step), state, params)
        params = jax.tree.map(jnp.add, params, updates)
        seen.append(np.asarray(params["body"]))
    np.testing.assert_array_equal(seen[0], PARAMS["body"])
    np.testing.assert_array_equal(seen[2], seen[1])
    np.testing.assert_array_equal(seen[4], seen[3])  # the fifth batch waits for a sixth
    other = make_optimizer(dataclasses.replace(config, accumulate=1), lambda update: 0.1 / (1 + 2 * update))
    params, state = PARAMS, other.init(PARAMS)
    for step in (0, 2):
        mean = jax.tree.map(lambda a, b: (a + b) / 2, gradients(step), gradients(step + 1))
        updates, state = other.update(mean, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(seen[4], params["body"], rtol=1e-5)
    assert [float(logged_rate(config, lambda step: step)(step)) for step in range(5)] == [0, 0, 2, 2, 4]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_average_has_the_weights_of_a_geometric_series_of_updates_however_many_steps_are_skipped(accumulate: int):
    config = OptimizerConfig(ema=0.7, accumulate=accumulate)
    values = np.random.default_rng(0).normal(size=8)
    state = TrainState(jnp.int32(0), jnp.float32(99), jnp.float32(99), None, {"params": 99.0, "batch_stats": 99.0})
    updates = 0
    for step in range(1, 9):
        updates += step % accumulate == 0
        counters = optax.MultiStepsState(jnp.int32(step % accumulate), jnp.int32(updates), (), (), ())
        if accumulate == 1:
            counters = optax.adam(lambda _: 0.1).init(jnp.zeros(1))
            counters = optax.tree_utils.tree_set(counters, count=jnp.int32(updates))
        new = TrainState(jnp.int32(2 * step), jnp.float32(values[step - 1]), jnp.float32(0), counters)
        state = new._replace(average=average_of(config, state, new))
    kept = values[accumulate - 1 :: accumulate]
    weights = 0.7 ** np.arange(len(kept))[::-1]
    np.testing.assert_allclose(state.average["params"], kept @ weights / weights.sum(), rtol=1e-5)


def test_layers_have_their_share_of_the_rate_and_frozen_ones_none():
    decayed = OptimizerConfig(learning_rate=0.1, weight_decay=0.1)
    free, slow = run(decayed, steps=1), run(dataclasses.replace(decayed, backbone_rate=0.25), steps=1)
    jax.tree.map(np.testing.assert_array_equal, free["head"], slow["head"])
    np.testing.assert_allclose(slow["body"] - PARAMS["body"], 0.25 * (free["body"] - PARAMS["body"]), rtol=1e-4)
    frozen = run(dataclasses.replace(decayed, freeze=("backbone", "head/bias")), steps=1)
    np.testing.assert_array_equal(frozen["body"], PARAMS["body"])
    np.testing.assert_array_equal(frozen["head"]["bias"], PARAMS["head"]["bias"])
    np.testing.assert_array_equal(frozen["head"]["kernel"], free["head"]["kernel"])


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
    with pytest.raises(InputError, match=r"unknown optimizer.name 'adagrad'.*adadelta, adam, adamw, lamb, lion, sgd"):
        OptimizerConfig(name="adagrad")
    for wrong, message in [
        ({"max_norm": -1.0}, r"optimizer.max_norm is -1.0; expected a finite length"),
        ({"clip_norm": float("inf")}, r"optimizer.clip_norm is inf; expected a finite norm"),
        ({"accumulate": 0}, r"optimizer.accumulate is 0; expected a number of batches"),
        ({"ema": 1.0}, r"optimizer.ema is 1.0; expected a decay in \[0, 1\)"),
        ({"backbone_rate": 0.0}, r"optimizer.backbone_rate is 0.0; expected a factor in \(0, 1\]"),
    ]:
        with pytest.raises(InputError, match=message):
            OptimizerConfig(**wrong)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            Config(optimizer=OptimizerConfig(name="adamw", momentum=0.5)),
            r"optimizer.momentum is 0.5; expected 0.9: it is of sgd, not of adamw",
        ),
        (
            Config(model=ModelConfig(norm="running")),
            r"model.norm 'running', but the network begins with random weights",
        ),
        (
            Config(data=DataConfig(statistics="imagenet")),
            r"'imagenet'; expected 'own': fashion_mnist does not have three",
        ),
        (
            Config(
                data=DataConfig(name="mr", erase=0.1, crop_padding=0, flip=False), model=ModelConfig(name="text_cnn")
            ),
            r"data.policy is '' and data.erase is 0.1; expected '' and 0: mr is text",
        ),
    ],
)
def test_numbers_that_make_no_recipe_together_are_refused_before_training(config: Config, message: str):
    with pytest.raises(InputError, match=message):
        check_config(config)


def test_more_batches_together_than_the_run_has_are_refused():
    with pytest.raises(InputError, match=r"optimizer.accumulate is 5, more than the 4 batches of the whole run"):
        count_steps(Config(epochs=2, batch_size=50, optimizer=OptimizerConfig(accumulate=5)), 100)
