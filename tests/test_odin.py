import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixup_jax.errors import InputError
from mixup_jax.prediction.variants import choose_epsilon, odin_logits

RNG = np.random.default_rng(0)
FIRST, SECOND = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((6, 8), (8, 4)))
INPUTS = jnp.asarray(RNG.normal(size=(10, 2, 3)), jnp.float32)


def network(x):
    return jnp.tanh(x.reshape(len(x), -1) @ FIRST) @ SECOND


def log_confidence(x, temperature):
    return np.asarray(jax.nn.log_softmax(network(x) / temperature).max(axis=-1), np.float64)


def test_two_classes_in_closed_form():
    # f(x) = (w x, 0): the confidence grows along w where w x > 0, and against it elsewhere.
    w = jnp.array([2.0, -3.0])
    x = jnp.array([[1.0, 0.1], [-1.0, 0.4]])
    logits = odin_logits(lambda x: jnp.stack([x @ w, 0 * x[:, 0]], axis=1), x, temperature=10.0, epsilon=0.1)
    np.testing.assert_allclose(logits[:, 0], [(1.7 + 0.5) / 10, (-3.2 - 0.5) / 10], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_the_step_is_along_the_sign_of_the_finite_difference(temperature):
    slopes = np.zeros(INPUTS.shape)
    h = 1e-2
    for place in np.ndindex(*INPUTS.shape[1:]):
        index = (slice(None), *place)
        up, down = (log_confidence(INPUTS.at[index].add(step), temperature) for step in (h, -h))
        slopes[index] = (up - down) / (2 * h)
    sure = np.abs(slopes) > 0.02 / temperature  # elsewhere a difference in float32 has no sign to speak of
    assert sure.mean() > 0.6
    seen = []

    def spy(x):
        seen.append(x)
        return network(x)

    odin_logits(spy, INPUTS, temperature=temperature, epsilon=0.5)
    moved = np.asarray(seen[-1] - INPUTS)
    np.testing.assert_allclose(moved[sure], 0.5 * np.sign(slopes)[sure], atol=1e-6)


def test_a_small_step_raises_the_confidence_and_none_only_divides():
    logits = odin_logits(network, INPUTS, temperature=5.0, epsilon=0.0)
    np.testing.assert_allclose(logits, network(INPUTS) / 5.0, rtol=1e-6)
    moved = jax.jit(lambda x: odin_logits(network, x, temperature=5.0, epsilon=1e-3))(INPUTS)
    assert (jax.nn.log_softmax(moved).max(axis=-1) >= jax.nn.log_softmax(logits).max(axis=-1)).all()
    one = odin_logits(network, INPUTS[:1], temperature=5.0, epsilon=1e-3)
    np.testing.assert_allclose(moved[:1], one, rtol=1e-5)


def test_epsilon_is_chosen_by_the_confidence_on_validation_inputs():
    candidates = [0.0, 0.01, 0.1]
    means = [
        float(jax.nn.softmax(odin_logits(network, INPUTS, temperature=2.0, epsilon=e)).max(axis=-1).mean())
        for e in candidates
    ]
    assert choose_epsilon(network, INPUTS, candidates, temperature=2.0) == candidates[int(np.argmax(means))]
    assert choose_epsilon(lambda x: jnp.zeros((len(x), 2)), INPUTS, [0.2, 0.1], temperature=2.0) == 0.2
    with pytest.raises(InputError, match="no candidates"):
        choose_epsilon(network, INPUTS, [], temperature=2.0)
    with pytest.raises(InputError, match="temperature of ODIN is 0"):
        odin_logits(network, INPUTS, temperature=0, epsilon=0.1)
    with pytest.raises(InputError, match="epsilon of ODIN is -1"):
        odin_logits(network, INPUTS, temperature=1, epsilon=-1)
