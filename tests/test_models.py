import re
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import create_model

from mixup_jax import models
from mixup_jax.config import ModelConfig
from mixup_jax.errors import InputError
from mixup_jax.models import check_model, model_of
from mixup_jax.models.resnet import BottleneckBlock, ResNet
from mixup_jax.models.vgg import VGG
from mixup_jax.models.wide_resnet import WideResNet

# The smallest member of each family, with dropout and every kind of layer.
TINY = {
    "basic": ResNet(classes=3, stages=(1, 1), width=4, dropout=0.5),
    "bottleneck": ResNet(classes=3, stages=(1, 1), width=4, stem="imagenet", dropout=0.5, block=BottleneckBlock),
    "vgg": VGG(classes=3, blocks=(1, 1), width=4, dropout=0.5),
    "vgg_hidden": VGG(classes=3, blocks=(1,), width=4, hidden=64),
    "wide": WideResNet(classes=3, blocks=1, width=4, dropout=0.5),
}
IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(4, 12, 12, 1)), jnp.float32)


def shapes_of(model: nn.Module, image: tuple[int, ...], **arguments: Any) -> Any:
    images, key = jax.ShapeDtypeStruct(image, jnp.float32), jax.random.key(0)
    return jax.eval_shape(lambda x: model.init_with_output(key, x, **arguments), images)


def filled(model: nn.Module) -> Any:
    """Variables without the minutes that a compiled initialisation takes: kernels normal, scales 1, the rest 0."""
    generator = np.random.default_rng(0)

    def leaf(path: tuple[Any, ...], like: jax.ShapeDtypeStruct) -> jax.Array:
        if len(like.shape) > 1:
            return jnp.asarray(generator.normal(0, np.prod(like.shape[:-1]) ** -0.5, like.shape), jnp.float32)
        return jnp.full(like.shape, float(path[-1].key in ("scale", "var")))

    return jax.tree_util.tree_map_with_path(leaf, shapes_of(model, (1, *IMAGES.shape[1:]), train=False)[1])


KEYS = jax.random.split(jax.random.key(5), 4)
VARIABLES = {name: filled(model) for name, model in TINY.items()}


@pytest.fixture(scope="module")
def trained() -> Any:
    """Logits and statistics of every family after one batch."""
    return jax.jit(lambda images: {name: train_one(TINY[name], VARIABLES[name], images) for name in TINY})(IMAGES)


def train_one(model: nn.Module, variables: Any, images: jax.Array) -> Any:
    return model.apply(variables, images, train=True, mutable=["batch_stats"])


@jax.jit
def dropped(images: jax.Array, keys: jax.Array) -> Any:
    """Logits and statistics of every family on running statistics, with dropout."""
    return {
        name: model.apply(VARIABLES[name], images, train=False, dropout_keys=keys, mutable=["batch_stats"])
        for name, model in TINY.items()
    }


# Sources of the counts.  ResNets with the ImageNet stem: torchvision's documentation of the weights
# (num_params).  ResNeXt-101 32x4d: the documentation of timm and of pytorchcv.  CIFAR-stem ResNets and VGG-16 with
# batch normalisation: weiaicunzai/pytorch-cifar100 and kuangliu/pytorch-cifar, printed there in millions, and
# in full in the tables of NeuralFuse (Sun et al., NeurIPS 2024).  WRN-28-10: pytorchcv; 36.5 million in
# the paper.  ResNet-8 of three blocks: counted by hand.
@pytest.mark.parametrize(
    ("name", "width", "stem", "classes", "channels", "count"),
    [
        ("resnet8", 16, "cifar", 10, 1, 77_754),
        ("resnet18", 64, "cifar", 10, 3, 11_173_962),
        ("resnet18", 64, "cifar", 100, 3, 11_220_132),
        ("resnet18", 64, "cifar", 10, 1, 11_172_810),
        ("resnet18", 64, "imagenet", 1000, 3, 11_689_512),
        ("resnet34", 64, "cifar", 10, 3, 21_282_122),
        ("resnet34", 64, "imagenet", 1000, 3, 21_797_672),
        ("resnet50", 64, "imagenet", 1000, 3, 25_557_032),
        ("resnet101", 64, "imagenet", 1000, 3, 44_549_160),
        ("resnext50_32x4d", 64, "imagenet", 1000, 3, 25_028_904),
        ("resnext101_32x4d", 64, "imagenet", 1000, 3, 44_177_704),
        ("resnext101_32x8d", 64, "imagenet", 1000, 3, 88_791_336),
        ("vgg16", 64, "cifar", 10, 3, 14_728_266),
        ("wrn28", 160, "cifar", 10, 3, 36_479_194),
    ],
)
def test_the_published_parameter_counts(name: str, width: int, stem: str, classes: int, channels: int, count: int):
    model = create_model(name, classes=classes, width=width, stem=stem)
    _, shapes = shapes_of(model, (1, 32, 32, channels), train=False)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


def test_the_hidden_layers_of_vgg_are_counted_by_hand_and_drop_out():
    _, shapes = shapes_of(create_model("vgg16", classes=10, width=64, hidden=4096), (1, 32, 32, 3), train=False)
    convolutions = 14_728_266 - (512 * 10 + 10)
    head = 512 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 10 + 10
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == convolutions + head
    model, variables = TINY["vgg_hidden"], VARIABLES["vgg_hidden"]
    keys = jax.random.split(jax.random.key(0), len(IMAGES))
    dropped = model.apply(variables, IMAGES, train=False, dropout_keys=keys)
    assert not np.allclose(dropped, model.apply(variables, IMAGES, train=False))


RESOLUTIONS = [
    ("resnet18", 4, "cifar", 28, [(28, 4), (14, 8), (7, 16), (4, 32)]),
    ("resnet18", 4, "imagenet", 96, [(24, 4), (12, 8), (6, 16), (3, 32)]),
    ("resnet50", 4, "imagenet", 224, [(56, 16), (28, 32), (14, 64), (7, 128)]),
    ("vgg16", 4, "cifar", 96, [(48, 4), (24, 8), (12, 16), (6, 32), (3, 32)]),
    ("vgg16", 4, "cifar", 28, [(14, 4), (7, 8), (4, 16), (2, 32), (1, 32)]),
    ("wrn28", 32, "cifar", 32, [(32, 32), (16, 64), (8, 128)]),
]


@pytest.mark.parametrize(("name", "width", "stem", "side", "stages"), RESOLUTIONS)
def test_mixing_is_asked_for_once_at_each_place(
    name: str, width: int, stem: str, side: int, stages: list[tuple[int, int]]
):
    model = create_model(name, classes=5, width=width, stem=stem, dtype="bfloat16", dropout=0.3)
    calls = []

    def mix(h: jax.Array, place: int) -> jax.Array:
        calls.append((place, h.shape))
        return jnp.concatenate([h, h]) if place == 0 else h

    keys = jax.random.split(jax.random.key(0), 4)
    logits, variables = shapes_of(model, (2, side, side, 3), train=True, mix=mix, dropout_keys=keys)
    hidden = [(place, (4, size, size, channels)) for place, (size, channels) in enumerate(stages, start=1)]
    assert calls == [(0, (2, side, side, 3)), *hidden]
    assert model.places == len(stages)
    assert (logits.shape, logits.dtype) == ((4, 5), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("name", "module", "layers"),
    [("resnet34", "resnet", 16), ("resnet50", "resnet", 16), ("vgg16", "vgg", 13), ("wrn28", "wide_resnet", 12)],
)
def test_every_dropout_layer_has_an_index_of_its_own(
    name: str, module: str, layers: int, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []

    def record(x: jax.Array, keys: jax.Array | None, *, rate: float, layer: int) -> jax.Array:
        seen.append(layer)
        return x if rate == 0.3 else x / 0

    monkeypatch.setattr(f"mixup_jax.models.{module}.dropout", record)
    shapes_of(create_model(name, classes=2, width=4, dropout=0.3), (1, 32, 32, 1), train=False)
    assert seen == list(range(layers))


@pytest.mark.parametrize("name", TINY)
def test_statistics_move_in_training_only(name: str, trained: Any):
    before = VARIABLES[name]["batch_stats"]
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, trained[name][1]["batch_stats"])
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, before, dropped(IMAGES, KEYS)[name][1]["batch_stats"])


def test_statistics_are_those_of_all_devices(trained: Any):
    def on_one(images: jax.Array) -> Any:
        return {name: train_one(TINY[name].clone(axis_name="devices"), VARIABLES[name], images) for name in TINY}

    over_devices = jax.jit(jax.vmap(on_one, axis_name="devices"))(IMAGES.reshape(2, 2, *IMAGES.shape[1:]))
    for name, (logits, statistics) in trained.items():
        np.testing.assert_allclose(over_devices[name][0].reshape(logits.shape), logits, rtol=1e-3, atol=1e-4)
        for copy in (0, 1):
            of_one = jax.tree.map(lambda leaf, copy=copy: leaf[copy], over_devices[name][1])
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), of_one, statistics)


@pytest.mark.parametrize("name", TINY)
def test_dropout_follows_the_keys_of_the_rows(name: str):
    order = jnp.array([1, 3, 0, 2])
    logits = dropped(IMAGES, KEYS)[name][0]
    np.testing.assert_allclose(dropped(IMAGES[order], KEYS[order])[name][0], logits[order], rtol=1e-4, atol=1e-6)
    others = dropped(IMAGES, KEYS[order])[name][0]
    assert np.all(np.any(np.abs(others - logits) > 1e-4, axis=1))


@pytest.mark.parametrize(("name", "last"), [("resnet18", "norm_2"), ("resnet50", "norm_3")])
@pytest.mark.parametrize("zero", [True, False])
def test_only_the_last_scale_of_a_residual_starts_at_zero(name: str, last: str, zero: bool):
    zeros = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, nn.BatchNorm):
            zeros[context.module.path] = context.module.scale_init is nn.initializers.zeros
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        shapes_of(create_model(name, classes=2, width=2, zero_init_residual=zero), (1, 8, 8, 1), train=False)
    assert len(zeros) > 10
    assert zeros == {path: zero and path[-1] == last for path in zeros}


def test_a_config_names_every_number_of_its_network():
    config = ModelConfig(
        name="resnet18", width=8, dropout=0.2, dtype="bfloat16", stem="imagenet", zero_init_residual=True
    )
    model = model_of(config, classes=7, axis_name="devices")
    assert (model.width, model.dropout, model.dtype, model.stem) == (8, 0.2, jnp.bfloat16, "imagenet")
    assert (model.zero_init_residual, model.axis_name, model.classes) == (True, "devices", 7)
    text = model_of(
        ModelConfig(name="text_cnn", width=9, dropout=0.5, filter_widths=(2, 7)), classes=3, vocabulary=5, embedding=4
    )
    assert (text.width, text.dropout, text.filter_widths, text.vocabulary, text.embedding_size) == (
        9,
        0.5,
        (2, 7),
        5,
        4,
    )


def test_the_documentation_lists_every_network():
    table = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(models.NETWORKS)


@pytest.mark.parametrize("name", models.NETWORKS)
def test_every_network_can_be_made_of_the_defaults(name: str):
    task = models.NETWORKS[name].task
    sizes = {"vocabulary": 5, "embedding": 4} if task == "text" else {}
    assert model_of(ModelConfig(name=name), classes=2, **sizes).places >= 0
    check_model(ModelConfig(name=name), task=task)


@pytest.mark.parametrize(
    ("config", "task", "message"),
    [
        (ModelConfig(name="resnet19"), None, r"unknown model 'resnet19' .*choose one of: .*resnet18, resnet34, "),
        (ModelConfig(name="text_cnn"), "image", r"model.name is 'text_cnn'; expected a network for image data: resnet"),
        (ModelConfig(name="vgg16"), "text", r"model.name is 'vgg16'; expected a network for text data: text_cnn"),
        (ModelConfig(hidden=8), None, r"model.hidden is 8; expected 0: resnet18 has no such option"),
        (ModelConfig(name="vgg16", stem="imagenet"), None, r"model.stem is 'imagenet'; expected 'cifar': vgg16 has no"),
        (ModelConfig(name="wrn28", zero_init_residual=True), None, r"zero_init_residual is True; expected False: wrn"),
        (
            ModelConfig(filter_widths=(2,)),
            None,
            r"model.filter_widths is \(2,\); expected \(3, 4, 5\): resnet18 has no",
        ),
        (ModelConfig(stem="mnist"), None, r"unknown model.stem 'mnist'; choose one of: cifar, imagenet"),
        (ModelConfig(name="vgg16", hidden=-1), None, r"model.hidden is -1; expected a width from 1 to 65536, or 0"),
        (ModelConfig(name="text_cnn", filter_widths=(3, 3)), None, r"model.filter_widths is \(3, 3\); expected differ"),
        (ModelConfig(name="text_cnn", filter_widths=()), None, r"model.filter_widths is \(\); expected different"),
        (ModelConfig(name="resnext101_32x4d", width=24), None, r"model.width is 24; expected a multiple of 16"),
    ],
)
def test_what_a_network_cannot_be_is_said_before_data_is_read(config: ModelConfig, task: str | None, message: str):
    with pytest.raises(InputError, match=message):
        check_model(config, task=task)


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("text_cnn", {}, "vocabulary of text_cnn is 0 x 0"),
        ("text_cnn", {"vocabulary": 5}, "vocabulary of text_cnn is 5 x 0"),
        ("resnet8", {"vocabulary": 5, "embedding": 4}, "model.name is 'resnet8'; expected a network for text data"),
        ("resnet8", {"dropout": 1.0}, r"model.dropout is 1.0; expected a rate in \[0, 1\)"),
    ],
)
def test_wrong_sizes_are_named(name: str, sizes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        create_model(name, classes=2, width=4, **sizes)
