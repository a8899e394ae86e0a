import jax
import jax.numpy as jnp
import pytest

from mixup_jax import compilation


def test_convolutions_are_not_taken_to_ynnpack_and_products_are():
    def both(x, kernel):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y, y.reshape(-1, 64) @ kernel[0, 0]

    x, kernel = jnp.ones((32, 28, 28, 64)), jnp.ones((3, 3, 64, 64))
    texts = [
        jax.jit(both, compiler_options=options).lower(x, kernel).compile().as_text()
        for options in (None, compilation.fast_to_run("cpu"))
    ]
    # That of XLA's choice has to be another, or the option has no use any more.
    assert [text.count("__ynn_fusion") for text in texts] == [2, 1]


def test_options_that_xla_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch):
    compilation._known.cache_clear()
    monkeypatch.setattr(compilation, "_FAST_TO_RUN", {"xla_cpu_no_such_option": "1"})
    assert compilation.fast_to_run("cpu") is None
    compilation._known.cache_clear()


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_only_programs_for_a_cpu_have_options(platform: str):
    assert compilation.fast_to_run(platform) is compilation.fast_to_compile(platform) is None
