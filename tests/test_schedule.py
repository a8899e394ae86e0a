import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixup_jax.config import OptimizerConfig
from mixup_jax.training.optimizer import learning_rate, make_optimizer


def rates(epochs: int, **settings: object) -> np.ndarray:
    schedule = learning_rate(OptimizerConfig(**settings), epochs=epochs, steps_per_epoch=10)
    return np.array([float(schedule(step)) for step in range(epochs * 10)])


def test_the_papers_steps_fall_at_the_first_step_of_their_epoch():
    values = rates(200, schedule="steps", step_epochs=(60, 120, 160), step_factor=0.2)
    np.testing.assert_allclose(
        values[[0, 599, 600, 1199, 1200, 1599, 1600, 1999]], np.repeat([0.1, 0.02, 0.004, 0.0008], 2), rtol=1e-5
    )


def test_cosine_starts_at_the_peak_and_ends_near_zero():
    values = rates(4, schedule="cosine")
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(40) / 40))
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-8)


def test_warmup_rises_linearly_to_the_rate_below_it():
    values = rates(4, schedule="steps", step_epochs=(), warmup_epochs=1.5)
    np.testing.assert_allclose(values[:15], 0.1 * np.arange(1, 16) / 15, rtol=1e-5)
    np.testing.assert_allclose(values[15:], 0.1, rtol=1e-6)


def test_warmup_may_rise_from_the_rate_of_one_worker():
    values = rates(4, learning_rate=0.4, schedule="steps", step_epochs=(1,), warmup_epochs=2.0, warmup_start=0.1)
    rising = 0.1 + 0.3 * np.arange(1, 21) / 20
    np.testing.assert_allclose(values[:20], rising * np.repeat([1, 0.2], 10), rtol=1e-5)
    np.testing.assert_allclose(values[20:], 0.08, rtol=1e-6)


def test_weight_decay_may_spare_biases_and_scales():
    layer = {"kernel": jnp.array([[2.0]]), "bias": jnp.array([3.0])}
    params = {"head": layer, "norm": {"scale": jnp.array([4.0]), "bias": jnp.array([5.0])}}
    config = OptimizerConfig(momentum=0.0, nesterov=False, weight_decay=0.5, decay_norm_and_bias=False)
    optimizer = make_optimizer(config, lambda step: 1.0)
    gradient = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    assert jax.tree.map(float, jax.tree.map(jnp.squeeze, updates)) == {
        "head": {"kernel": -1.0, "bias": 0.0},
        "norm": {"scale": 0.0, "bias": 0.0},
    }


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_update_written_out(nesterov: bool):
    config = OptimizerConfig(learning_rate=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    optimizer = make_optimizer(config, lambda step: 0.1)
    params, velocity = jnp.array([1.0, -2.0]), np.zeros(2)
    state = optimizer.init(params)
    for step in range(3):
        gradient = np.array([0.5, 1.0]) * (step + 1)
        decayed = gradient + 0.01 * np.asarray(params)
        velocity = 0.9 * velocity + decayed
        expected = np.asarray(params) - 0.1 * (decayed + 0.9 * velocity if nesterov else velocity)
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = params + updates
        np.testing.assert_allclose(params, expected, rtol=1e-5)
