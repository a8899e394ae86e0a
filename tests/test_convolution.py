import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mixup_jax.compilation import fast_to_run
from mixup_jax.models import convolution, winograd

SIZES = st.integers(1, 9)


def let_it_apply(patch: pytest.MonkeyPatch) -> None:
    """The rules are for processes of one device, where the tests have eight, and for large convolutions."""
    patch.setattr(jax, "device_count", lambda: 1)
    patch.setattr(convolution, "CHANNELS", 1)
    patch.setattr(convolution, "MULTIPLICATIONS", 1)
    patch.setattr(convolution, "MULTIPLICATIONS_OF_TINY_MAPS", 1)
    patch.setattr(convolution, "POSITIONS", 1)


@pytest.fixture
def applicable(monkeypatch: pytest.MonkeyPatch) -> None:
    let_it_apply(monkeypatch)


def value_and_gradients(convolve, x, kernel):
    """The output, and the gradients for a cotangent that is a function of it."""

    @jax.jit
    def computed(x, kernel):
        value, pull = jax.vjp(convolve, x, kernel)
        return value, *pull(jnp.sin(value))

    return computed(x, kernel)


def padded_by_one(stride):
    """Our convolution and XLA's."""
    geometry = ((stride, stride), ((1, 1), (1, 1)))
    return [lambda x, kernel, way=way: way(x, kernel, *geometry) for way in (convolution.convolve, convolution.native)]


def both_ways(x, kernel, strides, padding):
    settings = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}
    settings["dimension_numbers"] = convolution.DIMENSIONS
    return [
        value_and_gradients(lambda x, kernel, way=way: way(x, kernel, strides, padding, **settings), x, kernel)
        for way in (convolution.conv_general_dilated, jax.lax.conv_general_dilated)
    ]


@settings(max_examples=8, deadline=None)
@given(
    batch=st.integers(1, 7),
    height=SIZES,
    width=SIZES,
    channels=st.sampled_from([1, 3, 8]),
    maps=st.sampled_from([1, 5]),
    size=st.sampled_from([1, 2, 3, 3, 3, 3]),
    stride=st.sampled_from([1, 1, 2]),
    padding=st.sampled_from(["SAME", "SAME", "SAME", "VALID", [(0, 2), (1, 4)], [(3, 0), (2, 3)]]),
    rows=st.sampled_from([1, 40, 256]),
    seed=st.integers(0, 99),
)
@example(batch=6, height=5, width=4, channels=3, maps=5, size=3, stride=1, padding="SAME", rows=12, seed=0)
@example(batch=6, height=2, width=1, channels=3, maps=5, size=3, stride=1, padding=[(1, 1), (1, 1)], rows=12, seed=0)
@example(batch=2, height=8, width=7, channels=3, maps=5, size=3, stride=2, padding="SAME", rows=12, seed=0)
@example(batch=2, height=7, width=9, channels=3, maps=5, size=3, stride=2, padding=[(0, 2), (1, 4)], rows=12, seed=0)
@example(batch=2, height=9, width=8, channels=3, maps=5, size=3, stride=2, padding="VALID", rows=12, seed=0)
def test_the_rules_are_the_convolution_and_its_gradient(
    batch, height, width, channels, maps, size, stride, padding, rows, seed
):
    generator = np.random.default_rng(seed)
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        let_it_apply(patch)
        patch.setattr(winograd, "ROWS", rows)
        assume(padding != "VALID" or min(height, width) >= size)
        x = jnp.asarray(generator.normal(size=(batch, height, width, channels)))
        kernel = jnp.asarray(generator.normal(size=(size, size, channels, maps)))
        ours, natives = both_ways(x, kernel, (stride, stride), padding)
        for our, native in zip(ours, natives, strict=True):
            assert our.dtype == native.dtype == jnp.float64
            np.testing.assert_allclose(our, native, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("applicable")
def test_it_rounds_about_as_the_convolution_does():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 12, 12, 32))
    kernel = generator.normal(size=(3, 3, 32, 32))
    single = both_ways(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), (1, 1), "SAME")
    with jax.enable_x64(True):
        exact = both_ways(jnp.asarray(x), jnp.asarray(kernel), (1, 1), "SAME")[1]
    for our, native, truth in zip(*single, exact, strict=True):
        ours, natives = (np.std(np.asarray(way, float) - np.asarray(truth)) for way in (our, native))
        assert ours < 4 * natives + 1e-7


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_mapped_over_networks(stride):
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(3, 4, 6, 6, 32)), jnp.float32)
    kernel = jnp.asarray(0.05 * generator.normal(size=(3, 3, 3, 32, 32)), jnp.float32)
    ours, native = (partial(value_and_gradients, way) for way in padded_by_one(stride))
    found = jax.vmap(ours)(x, kernel)
    wanted = [native(*pair) for pair in zip(x, kernel, strict=True)]
    for mapped, single in zip(found, zip(*wanted, strict=True), strict=True):
        np.testing.assert_allclose(mapped, jnp.stack(single), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        ({"feature_group_count": 2}, "float32"),
        ({"rhs_dilation": (2, 2)}, "float32"),
        ({"window_strides": (1, 2)}, "float32"),
        ({"padding": ((1, 1), (1, 2))}, "float32"),
        ({"padding": "VALID"}, "float32"),
        ({}, "bfloat16"),
    ],
)
def test_what_the_rule_is_not_for_is_left_to_xla(changed, dtype):
    settings = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}
    settings |= {"dimension_numbers": convolution.DIMENSIONS, **changed}
    x = jnp.ones((2, 6, 6, 64), dtype)
    kernel = jnp.ones((3, 3, 64 // settings["feature_group_count"], 64), dtype)
    arguments = (settings.pop("window_strides", (1, 1)), settings.pop("padding", "SAME"))
    text = jax.jit(lambda x, k: convolution.conv_general_dilated(x, k, *arguments, **settings)).lower(x, kernel)
    assert "stablehlo.convolution" in text.as_text()
    assert "while" not in text.as_text()


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_plain_convolutions(platform, stride):
    def loss(x, kernel, way):
        return jnp.sum(jnp.sin(way(x, kernel)))

    x, kernel = jnp.ones((8, 6, 6, 64)), jnp.ones((3, 3, 64, 64))
    texts = [
        jax.jit(jax.grad(partial(loss, way=way), argnums=(0, 1)))
        .trace(x, kernel)
        .lower(lowering_platforms=(platform,))
        .as_text()
        for way in padded_by_one(stride)
    ]
    operations = ("convolution", "dot_general", "while", "optimization_barrier")
    counts = [[text.count(f"stablehlo.{name}") for name in operations] for text in texts]
    assert counts[0] == counts[1]


@pytest.mark.usefixtures("applicable")
def test_what_a_convolution_reads_is_made_once(monkeypatch):
    monkeypatch.setattr(convolution, "CHANNELS", 1000)

    def loss(x, kernel):
        return jnp.sum(jnp.sin(padded_by_one(1)[0](jnp.maximum(jnp.tanh(x), 0), kernel)))

    program = jax.jit(jax.grad(loss, argnums=1), compiler_options=fast_to_run("cpu"))
    text = program.lower(jnp.ones((8, 6, 6, 16)), jnp.ones((3, 3, 16, 16))).compile().as_text()
    assert text.count(" tanh(") == 1
    assert "opt-barrier(" in text


def test_a_process_of_one_device_uses_the_rule_where_it_pays():
    script = """
import jax, jax.numpy as jnp
from mixup_jax.models import create_model
model = create_model("resnet8", classes=10, width=128)
for batch in (128, 2):
    x = jax.ShapeDtypeStruct((batch, 28, 28, 1), "float32")
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    text = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, x).as_text()
    print("stablehlo.while" in text)
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.split() == ["True", "False"]
