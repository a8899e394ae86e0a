import jax
import jax.numpy as jnp
import pytest

from mixup_jax.errors import InputError
from mixup_jax.models import create_model


def parameters(name: str, *, classes: int, channels: int, width: int) -> int:
    model = create_model(name, classes=classes, width=width)
    shapes = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 32, 32, channels)), train=False), jax.random.key(0)
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("name", "classes", "channels", "count"),
    [
        # Published counts of the CIFAR-stem networks: 11.17 and 11.22 million, and 0.078 million.
        ("resnet18", 10, 3, 11_173_962),
        ("resnet18", 100, 3, 11_220_132),
        ("resnet18", 10, 1, 11_172_810),
    ],
)
def test_the_published_parameter_counts(name: str, classes: int, channels: int, count: int):
    assert parameters(name, classes=classes, channels=channels, width=64) == count


def test_resnet8_has_one_block_a_stage():
    assert parameters("resnet8", classes=10, channels=1, width=16) == 77_754


def test_logits_are_float32_and_statistics_move_only_in_training():
    model = create_model("resnet8", classes=3, width=2, dtype="bfloat16")
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    variables = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(0))
    logits, updates = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))(variables)
    assert (logits.dtype, logits.shape) == (jnp.float32, (4, 3))
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), variables["batch_stats"], updates["batch_stats"])
    assert all(jax.tree.leaves(moved))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_an_unknown_network_lists_the_known():
    with pytest.raises(InputError, match=r"unknown model 'resnet19' .*choose one of: resnet18, resnet8"):
        create_model("resnet19", classes=10, width=8)
