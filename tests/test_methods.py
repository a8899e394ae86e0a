"""The laws of every method, on the step itself and on what it draws."""

from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import CLASSES, Convolution, Words

from mixup_jax.errors import InputError
from mixup_jax.methods import mixup
from mixup_jax.methods.method import VARIANTS, Method
from mixup_jax.methods.mixing import dropout_keys, mix_batch
from mixup_jax.state import Batch, TrainState, run_keys
from mixup_jax.training.optimizer import with_classes
from mixup_jax.training.step import TrainStep, deepest, make_train_step

KEYS = run_keys(0)
B = 16
GENERATOR = np.random.default_rng(0)
LABELS = jnp.asarray(GENERATOR.integers(0, CLASSES, B), jnp.int32)
IMAGES = Batch(jnp.asarray(GENERATOR.normal(size=(B, 6, 6, 1)), jnp.float32), LABELS, jnp.ones(B))
TEXT = Batch(jnp.asarray(GENERATOR.integers(0, 20, (B, 7)), jnp.int32), LABELS, jnp.ones(B))
NETWORK = Convolution(normalise=False)
OPTIMIZER = optax.sgd(0.1)
ADAPTING = with_classes(OPTIMIZER, CLASSES)
mixed = partial(mix_batch, classes=CLASSES, places=2)


@lru_cache
def state_of(model: nn.Module, text: bool = False, adapting: bool = False) -> TrainState:
    variables = model.init(KEYS.init, (TEXT if text else IMAGES).inputs, train=False)
    params, optimizer = variables["params"], ADAPTING if adapting else OPTIMIZER
    return TrainState(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(params))


@lru_cache
def one_step(method: Method, model: nn.Module = NETWORK, text: bool = False) -> tuple[TrainState, dict[str, Any]]:
    # Not compiled as a whole: what its parts compile to is shared by all the methods.
    return step_of(method, model)(state_of(model, text, method.adapt_classes), TEXT if text else IMAGES, KEYS.step)


def step_of(method: Method, model: nn.Module) -> TrainStep:
    optimizer = ADAPTING if method.adapt_classes else OPTIMIZER
    return make_train_step(model, optimizer, method, classes=CLASSES, standardise=lambda inputs: inputs)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_method_takes_a_step_on_text_and_has_one_for_images(name: str):
    method = VARIANTS[name].method
    network = Convolution(rate=0.3)
    before = state_of(network, adapting=method.adapt_classes)
    shapes, _ = jax.eval_shape(step_of(method, network), before, IMAGES, KEYS.step)
    jax.tree.map(lambda new, old: np.testing.assert_equal(new.shape, old.shape), shapes, before)
    if method.cut:
        with pytest.raises(InputError, match=r"method.cut is True, but the data is text; expected images"):
            one_step(method, Words(), text=True)
        return
    state, metrics = one_step(method, Words(rate=0.3), text=True)
    assert np.isfinite(metrics["loss"])
    assert jnp.any(
        state.params["Embed_0"]["embedding"] != state_of(Words(rate=0.3), text=True).params["Embed_0"]["embedding"]
    )


@pytest.mark.parametrize("method", [Method(cut=True, clean_weight=0.5), Method(layer="random", clean_weight=0.5)])
def test_no_mixing_is_erm_bit_for_bit_whatever_else_mixing_would_do(method: Method):
    jax.tree.map(np.testing.assert_array_equal, one_step(method), one_step(Method()))


@settings(deadline=None, max_examples=10)
@given(
    st.builds(
        Method,
        mixup_alpha=st.sampled_from([0.0, 0.2, 20.0]),
        mix_inputs=st.booleans(),
        mix_labels=st.booleans(),
        cut=st.booleans(),
        label_smoothing=st.sampled_from([0.0, 0.3]),
        smooth_over=st.sampled_from(["others", "all"]),
        clean_weight=st.sampled_from([0.0, 0.3]),
        scope=st.sampled_from(["group", "example"]),
    ),
    st.integers(0, 1000),
)
def test_targets_sum_to_one_and_weights_to_the_batch(method: Method, seed: int):
    out = mixed(method, IMAGES, jax.random.key(seed))
    assert out.mix(IMAGES.inputs, 0).shape == (B * method.copies, 6, 6, 1)
    assert out.targets.shape == out.unsmoothed.shape == (B * method.copies, CLASSES)
    for targets in (out.targets, out.unsmoothed):
        np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)
        assert float(targets.min()) >= 0
    np.testing.assert_allclose(out.weights.sum(), B, rtol=1e-5)
    assert 0 <= float(out.strength) <= 0.5


@pytest.mark.parametrize("scope", ["group", "example"])
def test_cutmix_weighs_labels_by_the_pixels_that_are_counted(scope: str):
    # Every image is filled with the number of its class, so that pixels tell whose they are.
    shown = jnp.broadcast_to(jnp.arange(B, dtype=jnp.float32)[:, None, None, None], (B, 11, 7, 1))
    batch = Batch(shown, jnp.arange(B), jnp.ones(B))
    shares = []
    for seed in range(3):
        method = Method(mixup_alpha=1.0, cut=True, scope=scope, group_size=8)
        out = mix_batch(method, batch, jax.random.key(seed), classes=B)
        counted = (out.mix(shown, 0).reshape(B, -1, 1) == np.arange(B)).mean(axis=1)
        np.testing.assert_allclose(out.targets, counted, atol=1e-6)
        shares.append(np.unique(counted.max(axis=1)))
    assert any(0 < share < 1 for found in shares for share in found)
    # One box for a group of eight, or one for each example.
    assert (max(map(len, shares)) > 3) == (scope == "example")


@settings(deadline=None, max_examples=20)
@given(lam=st.floats(0, 1, width=32), seed=st.integers(0, 1000))
def test_a_box_is_that_of_cutmix(lam: float, seed: int):
    height, width = 12, 9
    boxes = mixup.draw_boxes(jax.random.key(seed), jnp.full((3, 4), lam), height, width, per_example=True)
    low, high = np.asarray(boxes.low), np.asarray(boxes.high)
    assert ((low >= 0) & (low <= high) & (high <= [height, width])).all()
    sides = np.array([int(np.sqrt(np.float32(1) - np.float32(lam)) * side) for side in (height, width)])
    inside = (low > 0) & (high < [height, width])
    np.testing.assert_array_equal((high - low)[inside], np.broadcast_to(2 * (sides // 2), low.shape)[inside])
    share = np.asarray(mixup.kept_share(boxes, height, width))
    np.testing.assert_allclose(share, 1 - (high - low).prod(axis=-1) / (height * width), atol=1e-6)
    assert (share >= lam - 1e-6).all()


def test_a_box_that_covers_nothing_or_all_returns_one_of_the_two():
    images = jax.random.normal(KEYS.init, (4, 3, 5, 2))
    partner = jnp.array([[1, 0], [0, 1]])
    corner = jnp.zeros((2, 2, 2), jnp.int32)
    np.testing.assert_array_equal(mixup.paste(images, mixup.Boxes(corner, corner), partner), images)
    whole = mixup.Boxes(corner, jnp.broadcast_to(jnp.array([3, 5]), corner.shape))
    np.testing.assert_array_equal(mixup.paste(images, whole, partner), images[jnp.array([1, 0, 2, 3])])


def test_feature_only_keeps_the_label_of_the_larger_part_and_label_only_the_inputs():
    full, cut = Method(mixup_alpha=1.0, scope="example"), Method(mixup_alpha=1.0, scope="example", cut=True)
    kept: list[bool] = []
    for base in (full, cut):
        out = mixed(base, IMAGES, KEYS.step)
        features = mixed(Method(mixup_alpha=1.0, scope="example", cut=base.cut, mix_labels=False), IMAGES, KEYS.step)
        np.testing.assert_array_equal(features.mix(IMAGES.inputs, 0), out.mix(IMAGES.inputs, 0))
        np.testing.assert_array_equal(np.sort(features.targets, axis=1)[:, -2:], np.tile([0, 1], (B, 1)))
        own = np.asarray(out.targets)[np.arange(B), LABELS] >= 0.5
        np.testing.assert_array_equal(np.asarray(features.targets).argmax(1)[own], np.asarray(LABELS)[own])
        kept += list(own)
    assert 0.5 < np.mean(kept) < 1
    labels = mixed(Method(mixup_alpha=1.0, mix_inputs=False, layer="random"), IMAGES, KEYS.step)
    np.testing.assert_array_equal(labels.mix(IMAGES.inputs, 1), IMAGES.inputs)


def test_manifold_mixup_mixes_as_mixup_does_at_one_place_of_three():
    hidden = jax.random.normal(KEYS.init, (B, 4))
    chosen = []
    for step in range(30):
        key = jax.random.fold_in(KEYS.step, step)
        out = mix_batch(Method(mixup_alpha=1.0, layer="random"), IMAGES, key, classes=CLASSES, places=4)
        plain = mixed(Method(mixup_alpha=1.0), IMAGES, key)
        np.testing.assert_array_equal(out.targets, plain.targets)
        moved = [place for place in range(5) if bool(jnp.any(out.mix(hidden, place) != hidden))]
        assert len(moved) == 1
        np.testing.assert_array_equal(out.mix(hidden, moved[0]), plain.mix(hidden, 0))
        np.testing.assert_array_equal(plain.mix(hidden, 1), hidden)
        chosen += moved
    assert set(chosen) == {0, 1, 2}
    assert min(chosen.count(place) for place in (0, 1, 2)) >= 4


def test_without_hidden_places_manifold_mixup_is_mixup_bit_for_bit():
    random, plain = (Method(mixup_alpha=1.0, layer=layer) for layer in ("random", "input"))
    jax.tree.map(np.testing.assert_array_equal, one_step(random, Words(), True), one_step(plain, Words(), True))


def test_what_is_mixed_keeps_its_type():
    out = mixed(Method(mixup_alpha=1.0, layer="random", clean_weight=0.5), IMAGES, KEYS.step)
    assert {out.mix(jnp.ones((2 * B, 3), jnp.bfloat16), place).dtype.name for place in (1, 2)} == {"bfloat16"}


@pytest.mark.parametrize("layer", ["input", "random"])
def test_the_loss_of_regmixup_is_that_of_two_passes(layer: str):
    both, alone = (Method(mixup_alpha=20.0, layer=layer, clean_weight=weight) for weight in (0.3, 0.0))
    clean, other = float(one_step(Method())[1]["loss"]), float(one_step(alone)[1]["loss"])
    assert clean != pytest.approx(other, rel=1e-3)
    assert float(one_step(both)[1]["loss"]) == pytest.approx(0.3 * clean + 0.7 * other, rel=1e-5)


def test_padding_counts_for_nothing_in_regmixup():
    out = mixed(Method(mixup_alpha=1.0, clean_weight=0.25), IMAGES._replace(weights=jnp.arange(B) % 2.0), KEYS.step)
    np.testing.assert_allclose(out.weights.reshape(B, 2), np.outer(np.arange(B) % 2, [0.25, 0.75]))


def test_rankmixup_without_its_rank_is_erm_and_with_it_asks_for_less_from_mixtures_of_two_classes():
    numbers = {"mixup_alpha": 2.0, "clean_weight": 1.0, "scope": "example"}
    erm, unranked = one_step(Method()), one_step(Method(**numbers))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), unranked[0], erm[0])
    drawn = mixed(Method(**numbers), IMAGES, jax.random.fold_in(KEYS.step, 0))
    variables = {"params": state_of(NETWORK).params}
    largest = np.asarray(NETWORK.apply(variables, drawn.mix(IMAGES.inputs, 0), train=True)).max(axis=1).reshape(B, 2)
    # With the label of each example in place of a class, a pair of one class is one whose mixed label is hard.
    of_two = (np.asarray(drawn.targets).reshape(B, 2, CLASSES)[:, 1] > 1e-6).sum(axis=1) == 2
    assert 0 < of_two.sum() < B
    margin = float(np.median(largest[:, 0] - largest[:, 1])) + 0.01
    term = (np.maximum(largest[:, 1] - largest[:, 0] + margin, 0) * of_two).mean()
    ranked = one_step(Method(**numbers, rank_weight=0.5, rank_margin=margin))
    assert term > 0
    assert float(ranked[1]["loss"] - unranked[1]["loss"]) == pytest.approx(0.5 * term, rel=1e-3)


@pytest.mark.parametrize(("mixed_classes", "like"), [(0.0, Method()), (1.0, Method(mixup_alpha=1.0, scope="example"))])
def test_camixup_of_no_class_is_erm_and_of_every_class_mixup_bit_for_bit(mixed_classes: float, like: Method):
    method = Method(mixup_alpha=1.0, scope="example", adapt_classes=True)
    before = state_of(NETWORK, adapting=True)
    before = before._replace(opt_state=before.opt_state._replace(mixed=jnp.full(CLASSES, mixed_classes)))
    (state, metrics), (expected, of_like) = step_of(method, NETWORK)(before, IMAGES, KEYS.step), one_step(like)
    jax.tree.map(np.testing.assert_array_equal, (state.params, metrics["loss"]), (expected.params, of_like["loss"]))
    assert float(metrics["mixing"]) == pytest.approx(float(of_like["mixing"]))


def test_camixup_leaves_the_examples_of_the_other_classes_as_they_are():
    chosen = jnp.asarray([1.0, 0.0, 1.0, 0.0, 0.0])
    out = mixed(Method(mixup_alpha=1.0, adapt_classes=True), IMAGES, KEYS.step, mixed_classes=chosen)
    plain = mixed(Method(mixup_alpha=1.0), IMAGES, KEYS.step)
    rows = np.asarray(chosen)[LABELS] > 0
    for of_both, inputs in ((out.mix(IMAGES.inputs, 0), plain.mix(IMAGES.inputs, 0)), (out.targets, plain.targets)):
        np.testing.assert_array_equal(of_both[rows], inputs[rows])
    np.testing.assert_array_equal(out.mix(IMAGES.inputs, 0)[~rows], IMAGES.inputs[~rows])
    np.testing.assert_array_equal(out.targets[~rows], np.eye(CLASSES)[LABELS][~rows])
    assert 0 < rows.sum() < B


def test_sk_mixup_of_an_endless_spread_is_mixup_bit_for_bit():
    wide = one_step(Method(mixup_alpha=1.0, scope="example", kernel_spread=1e6))
    jax.tree.map(np.testing.assert_array_equal, wide, one_step(Method(mixup_alpha=1.0, scope="example")))


def test_the_farther_a_pair_is_apart_the_less_it_is_mixed():
    partner = jnp.tile(jnp.array([1, 0, 3, 2]), (500, 1))
    features = jnp.tile(jnp.array([[0.0], [1.0], [0.0], [3.0]]), (500, 1))  # squared distances 1 and 9, mean 5
    lam = mixup.draw_by_distance(KEYS.step, jnp.arange(500), partner, features, 2.0, 0.5)
    for pair, relative in ((lam[:, :2], 0.2), (lam[:, 2:], 1.8)):
        tau = 2 * np.exp(-(relative - 1) / (2 * 0.25))
        assert float(pair.mean()) == pytest.approx(0.5, abs=0.04)
        assert float(pair.var()) == pytest.approx(1 / (4 * (2 * tau + 1)), rel=0.1)
    same = mixup.draw_by_distance(KEYS.step, jnp.arange(500), partner, 0 * features, 2.0, 0.5)
    assert np.isfinite(same).all()


def test_sk_mixup_measures_what_the_network_shows_at_its_deepest_place():
    def features(x: jax.Array) -> np.ndarray:
        kernel = state_of(NETWORK).params["Conv_0"]
        convolved = jax.lax.conv_general_dilated(
            x, kernel["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return np.asarray(jax.nn.relu(convolved + kernel["bias"]).mean(axis=(1, 2)))

    np.testing.assert_allclose(deepest(NETWORK, state_of(NETWORK), IMAGES.inputs), features(IMAGES.inputs), atol=1e-5)
    method = Method(mixup_alpha=1.0, scope="example", kernel_spread=0.1)
    assert float(one_step(method)[1]["mixing"]) != float(
        one_step(Method(mixup_alpha=1.0, scope="example"))[1]["mixing"]
    )


def test_decoupled_mixtures_of_a_network_that_is_linear_are_erm():
    """The logits solved from two mixtures are those of the examples, and each example is one and a partner once."""

    class Affine(nn.Module):
        places = 0

        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool, mix: Any = None, dropout_keys: Any = None) -> jax.Array:
            x = x if mix is None else mix(x, 0)
            return nn.Dense(CLASSES)(x.reshape(x.shape[0], -1))

    method = Method(mixup_alpha=1.0, decouple=True, decouple_gap=0.5, scope="example")
    (state, metrics), (expected, of_erm) = one_step(method, Affine()), one_step(Method(), Affine())
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), state, expected)
    for name in ("loss", "accuracy_mixed"):
        assert float(metrics[name]) == pytest.approx(float(of_erm[name]), rel=1e-4)
    assert 0 < float(metrics["mixing"]) < 0.5


def test_two_shares_are_on_both_sides_of_a_half_and_as_far_apart_as_they_are_asked_to_be():
    gap = 0.5
    first, second = mixup.draw_two_shares(KEYS.step, 200, 2, 1.0, gap)
    assert float(second.min()) >= 0
    assert float(first.max()) <= 1
    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    assert float((first - second).min()) >= gap
    # Uniform lambdas: their gap is half the sum of two uniform numbers, given that it is at least `gap`.
    uniform = np.random.default_rng(0).random((200_000, 2)).mean(axis=1)
    assert float((first - second).mean()) == pytest.approx(uniform[uniform >= gap].mean(), abs=0.05)
    widest = mixup.draw_two_shares(KEYS.step, 200, 2, 50.0, 0.9)
    assert float((widest[0] - widest[1]).min()) > 0  # none of the draws is 0.9 apart


@pytest.mark.parametrize("method", [Method(mixup_alpha=1.0, arc_weight=3.0), Method(arc_weight=3.0)])
def test_arc_is_gradient_descent_on_the_squared_gap(method: Method):
    drawn = mixed(method, IMAGES, jax.random.fold_in(KEYS.step, 0))

    params = state_of(NETWORK).params

    def logits_of(params: Any) -> jax.Array:
        return NETWORK.apply({"params": params}, drawn.mix(IMAGES.inputs, 0), train=True)

    accuracy = np.asarray(drawn.targets)[np.arange(B), np.asarray(logits_of(params)).argmax(1)].mean()

    def loss(params: Any) -> jax.Array:
        gap = jax.nn.softmax(logits_of(params)).max(1).mean() - accuracy
        return optax.softmax_cross_entropy(logits_of(params), drawn.targets).mean() + 3 * gap**2

    value, gradient = jax.value_and_grad(loss)(params)
    state, metrics = one_step(method)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    moved = jax.tree.map(lambda new, old: (old - new) / 0.1, state.params, params)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), moved, gradient)


def test_a_row_has_the_same_dropout_key_on_any_number_of_devices():
    method = Method(mixup_alpha=1.0, group_size=2, clean_weight=0.5)
    whole = jax.random.key_data(dropout_keys(method, IMAGES, KEYS.step))

    def on_a_device(labels: jax.Array) -> jax.Array:
        local = Batch(labels, labels, labels)
        return jax.random.key_data(dropout_keys(method, local, KEYS.step, "batch"))

    parts = jax.pmap(on_a_device, axis_name="batch")(LABELS.reshape(8, 2))
    np.testing.assert_array_equal(parts.reshape(whole.shape), whole)
    assert len(np.unique(np.asarray(whole), axis=0)) == 2 * B


def test_dropout_draws_anew_at_every_step_and_is_absent_at_rate_zero():
    def loss(rate: float, step: int) -> float:
        model = Convolution(normalise=False, rate=rate)
        take = make_train_step(model, OPTIMIZER, Method(), classes=CLASSES, standardise=lambda inputs: inputs)
        return float(take(state_of(model)._replace(step=jnp.asarray(step)), IMAGES, KEYS.step)[1]["loss"])

    assert loss(0.0, 0) == loss(0.0, 1) == float(one_step(Method())[1]["loss"])
    assert len({loss(0.5, 0), loss(0.5, 1), loss(0.0, 0)}) == 3
