"""The table of networks, and making a network from a config.

A network is a flax module, called as `network.apply(variables, inputs, train=..., mix=None, dropout_keys=None)`.  Its
property `places` is the number of hidden places where it calls `mix`; `ResNet` describes the arguments.

To add a network, write its class in its own file and add a row to `NETWORKS`.  The class is called with `classes`, the
fields that its row fixes, and the keys of `config.model` for which it has a field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.config import ModelConfig
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.models import resnet, text_cnn, vgg
from mixup_jax.models.resnet import BottleneckBlock, ResNet
from mixup_jax.models.text_cnn import TextCNN
from mixup_jax.models.vgg import VGG
from mixup_jax.models.wide_resnet import WideResNet


@dataclass(frozen=True)
class Network:
    """A row of the table.

    Attributes:
      module: the class.
      fixed: values of fields of the class.
      task: the kind of data it takes, "image" or "text".
      check: raises InputError for options that the network cannot have; None if it can have all.
    """

    module: type[nn.Module]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    task: str = "image"
    check: Callable[[ModelConfig], None] | None = None


NETWORKS = {
    "resnet8": Network(ResNet, {"stages": (1, 1, 1)}, check=resnet.check),
    "resnet18": Network(ResNet, {"stages": (2, 2, 2, 2)}, check=resnet.check),
    "resnet34": Network(ResNet, {"stages": (3, 4, 6, 3)}, check=resnet.check),
    "resnet50": Network(ResNet, {"stages": (3, 4, 6, 3), "block": BottleneckBlock}, check=resnet.check),
    "resnext101_32x4d": Network(
        ResNet, {"stages": (3, 4, 23, 3), "block": resnet.RESNEXT_BLOCK}, check=resnet.check_resnext
    ),
    "vgg16": Network(VGG, {"blocks": (2, 2, 3, 3, 3)}, check=vgg.check),
    "wrn28": Network(WideResNet, {"blocks": 4}),
    "text_cnn": Network(TextCNN, task="text", check=text_cnn.check),
}

DEFAULTS = ModelConfig()
COMMON = ("name", "width", "dropout", "dtype", "cpu_convolution")
"""Keys of `config.model` that may be set for every network."""


def model_of(
    config: ModelConfig, *, classes: int, axis_name: str | None = None, vocabulary: int = 0, embedding: int = 0
) -> nn.Module:
    """Returns the network of a config.

    Under pmap, batch statistics are averaged over `axis_name`.  For text, `vocabulary` is the number of tokens, padding
    included, and `embedding` the length of a word vector.
    """
    check_model(config, task="text" if vocabulary else None)
    network = NETWORKS[config.name]
    if network.task == "text" and min(vocabulary, embedding) < 1:
        raise InputError(f"vocabulary of {config.name} is {vocabulary} x {embedding}; expected at least 1 x 1")
    given = {key: getattr(config, key) for key in _options()}
    given |= {"classes": classes, "axis_name": axis_name, "vocabulary": vocabulary, "embedding_size": embedding}
    given |= {"dtype": jnp.dtype(config.dtype)}
    taken = {key: value for key, value in given.items() if key in _fields_of(network)}
    return network.module(**taken, **network.fixed)


def check_model(config: ModelConfig, *, task: str | None = None) -> None:
    """Raises InputError if a network's config is wrong or it does not fit the task; None leaves the task open."""
    name = config.name
    if name not in NETWORKS:
        raise unknown_name("model", name, NETWORKS)
    network = NETWORKS[name]
    if task is not None and network.task != task:
        fitting = sorted(other for other, row in NETWORKS.items() if row.task == task)
        raise InputError(f"model.name is {name!r}; expected a network for {task} data: {', '.join(fitting)}")
    for key in _options() - _fields_of(network) - set(COMMON):
        value, default = getattr(config, key), getattr(DEFAULTS, key)
        if value != default:
            raise InputError(f"model.{key} is {value!r}; expected {default!r}: {name} has no such option")
    if network.check:
        network.check(config)


def _options() -> set[str]:
    """Returns the keys of `config.model` except the name, which has another meaning in flax."""
    return {each.name for each in dataclasses.fields(ModelConfig)} - {"name"}


def _fields_of(network: Network) -> set[str]:
    return {each.name for each in dataclasses.fields(network.module)}


def init_variables(model: nn.Module, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns a network's initial `params` and `batch_stats`; under `jax.eval_shape`, their shapes."""
    dtype = jnp.float32 if len(input_shape) > 1 else jnp.int32
    variables = model.init(key, jnp.zeros((1, *input_shape), dtype), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
