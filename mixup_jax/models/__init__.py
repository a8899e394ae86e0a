"""The table of networks, and making a network from a config.

A network is a flax module, called as `network.apply(variables, inputs, train=..., mix=None, dropout_keys=None)`.  Its
property `places` is the number of hidden places where it calls `mix`; `ResNet` describes the arguments.

To add a network, write its class in its own file and add a row to `NETWORKS`.  The class is called with `classes`, the
fields that its row fixes, and the keys of `config.model` for which it has a field.  A class elsewhere needs no row:
`own` has what is particular to it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.config import ModelConfig
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.models import own, resnet, text_cnn, vgg
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
      task: the kind of data it takes, "image" or "text"; None if that is not known.
      check: raises InputError for options that the network cannot have; None if it can have all.
    """

    module: type[nn.Module]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = "image"
    check: Callable[[ModelConfig], None] | None = None


NETWORKS = {
    "resnet8": Network(ResNet, {"stages": (1, 1, 1)}, check=resnet.check),
    "resnet18": Network(ResNet, {"stages": (2, 2, 2, 2)}, check=resnet.check),
    "resnet34": Network(ResNet, {"stages": (3, 4, 6, 3)}, check=resnet.check),
    "resnet50": Network(ResNet, {"stages": (3, 4, 6, 3), "block": BottleneckBlock}, check=resnet.check),
    "resnet101": Network(ResNet, {"stages": (3, 4, 23, 3), "block": BottleneckBlock}, check=resnet.check),
    "resnext50_32x4d": Network(
        ResNet, {"stages": (3, 4, 6, 3), "block": resnet.RESNEXT_BLOCK}, check=resnet.check_resnext
    ),
    "resnext101_32x4d": Network(
        ResNet, {"stages": (3, 4, 23, 3), "block": resnet.RESNEXT_BLOCK}, check=resnet.check_resnext
    ),
    "resnext101_32x8d": Network(
        ResNet, {"stages": (3, 4, 23, 3), "block": resnet.RESNEXT_8_BLOCK}, check=resnet.check_resnext
    ),
    "vgg16": Network(VGG, {"blocks": (2, 2, 3, 3, 3)}, check=vgg.check),
    "wrn28": Network(WideResNet, {"blocks": 4}),
    "text_cnn": Network(TextCNN, task="text", check=text_cnn.check),
}

COMMON = ("name", "width", "dropout", "dtype", "cpu_convolution", "weights", "norm")
"""Keys of `config.model` that may be set for every network."""


def network_of(config: ModelConfig) -> Network:
    """Returns the row of a network, or what is its row for a class outside of the package."""
    if own.is_own(config.name):
        module, settings = own.load_class(config.name), own.settings_of(config)
        own.check_settings(config.name, module, settings)
        return Network(module, settings, task=None)
    if config.name not in NETWORKS:
        raise unknown_name("model", config.name, NETWORKS)
    return NETWORKS[config.name]


def model_of(
    config: ModelConfig, *, classes: int, axis_name: str | None = None, vocabulary: int = 0, embedding: int = 0
) -> nn.Module:
    """Returns the network of a config.

    Under pmap, batch statistics are averaged over `axis_name`.  For text, `vocabulary` is the number of tokens, padding
    included, and `embedding` the length of a word vector.
    """
    check_model(config, task="text" if vocabulary else None)
    network = network_of(config)
    if network.task == "text" and min(vocabulary, embedding) < 1:
        raise InputError(f"vocabulary of {config.name} is {vocabulary} x {embedding}; expected at least 1 x 1")
    given = {key: getattr(config, key) for key in own.OPTIONS}
    given |= {"classes": classes, "axis_name": axis_name, "vocabulary": vocabulary, "embedding_size": embedding}
    given |= {"dtype": jnp.dtype(config.dtype)}
    taken = {key: value for key, value in given.items() if key in _fields_of(network)}
    return network.module(**taken, **network.fixed)


def check_model(config: ModelConfig, *, task: str | None = None) -> None:
    """Raises InputError if a network's config is wrong or it does not fit the task; None leaves the task open."""
    name, network = config.name, network_of(config)
    if None not in (task, network.task) and network.task != task:
        fitting = sorted(other for other, row in NETWORKS.items() if row.task == task)
        raise InputError(f"model.name is {name!r}; expected a network for {task} data: {', '.join(fitting)}")
    ignored = {*COMMON, "settings"} if own.is_own(name) else set(COMMON)
    for each in dataclasses.fields(ModelConfig):
        value = getattr(config, each.name)
        if value != each.default and each.name not in ignored | _fields_of(network):
            raise InputError(f"model.{each.name} is {value!r}; expected {each.default!r}: {name} has no such option")
    if network.check:
        network.check(config)


def _fields_of(network: Network) -> set[str]:
    return {each.name for each in dataclasses.fields(network.module)}


def init_variables(model: nn.Module, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns a network's initial `params` and `batch_stats`."""
    dtype = jnp.float32 if len(input_shape) > 1 else jnp.int32
    variables = model.init(key, jnp.zeros((1, *input_shape), dtype), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def shapes_of(model: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns the shapes of a network's `params` and `batch_stats`."""
    variables: dict[str, Any] = jax.eval_shape(partial(init_variables, model, input_shape=shape), jax.random.key(0))
    return variables
