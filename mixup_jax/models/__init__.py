"""The networks, by name.

Every network is called as `model.apply(variables, inputs, train=..., mix=None, dropout_keys=None)` and
has a property `places`, the number of hidden places where it calls `mix`; see `ResNet` for what they mean.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixup_jax.config import ModelConfig
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.models.resnet import BottleneckBlock, ResNet
from mixup_jax.models.text_cnn import TextCNN
from mixup_jax.models.vgg import VGG
from mixup_jax.models.wide_resnet import WideResNet

DEFAULTS = ModelConfig()

RESNEXT_GROUPS = 32
# 32 groups of 4 channels where a bottleneck without groups has 64 channels.
RESNEXT_BLOCK = partial(BottleneckBlock, groups=RESNEXT_GROUPS, inner=2)

RESNETS = {
    "resnet8": partial(ResNet, stages=(1, 1, 1)),
    "resnet18": partial(ResNet, stages=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, stages=(3, 4, 6, 3)),
    "resnet50": partial(ResNet, stages=(3, 4, 6, 3), block=BottleneckBlock),
    "resnext101_32x4d": partial(ResNet, stages=(3, 4, 23, 3), block=RESNEXT_BLOCK),
}
IMAGE_MODELS = RESNETS | {
    "vgg16": partial(VGG, blocks=(2, 2, 3, 3, 3)),
    "wrn28": partial(WideResNet, blocks=4),
}
TEXT_MODELS = {"text_cnn": TextCNN}
MODELS = [*IMAGE_MODELS, *TEXT_MODELS]


def create_model(
    name: str,
    *,
    classes: int,
    width: int,
    stem: str = DEFAULTS.stem,
    hidden: int = DEFAULTS.hidden,
    dropout: float = DEFAULTS.dropout,
    zero_init_residual: bool = DEFAULTS.zero_init_residual,
    filter_widths: tuple[int, ...] = DEFAULTS.filter_widths,
    dtype: str = DEFAULTS.dtype,
    axis_name: str | None = None,
    vocabulary: int = 0,
    embedding: int = 0,
) -> nn.Module:
    """Returns a network that maps standardised images `[B, H, W, C]` or tokens `[B, L]` to logits float32 `[B, K]`.

    The arguments that are not named below are those of `ModelConfig`.

    Args:
      name: one of `MODELS`.
      classes: K.
      width: channels of the first stage, or feature maps of each filter width.
      stem: of `RESNETS`.
      hidden: of vgg16.
      dropout: rate of the dropout layers, which are active where `dropout_keys` are given.
      zero_init_residual: of `RESNETS`.
      filter_widths: of `TEXT_MODELS`.
      dtype: compute type.
      axis_name: the mapped axis over which batch statistics are averaged, under pmap.
      vocabulary: V of the data set's tokens, padding included; 0 for images.
      embedding: E, the length of a word vector; 0 for images.

    Raises:
      InputError: a number is out of range or the network does not have it; the vocabulary is missing, or is
        given to a network for images.
    """
    config = ModelConfig(
        name=name,
        width=width,
        stem=stem,
        hidden=hidden,
        dropout=dropout,
        zero_init_residual=zero_init_residual,
        filter_widths=filter_widths,
        dtype=dtype,
    )
    return model_of(config, classes=classes, axis_name=axis_name, vocabulary=vocabulary, embedding=embedding)


def model_of(
    config: ModelConfig, *, classes: int, axis_name: str | None = None, vocabulary: int = 0, embedding: int = 0
) -> nn.Module:
    """Returns the network of a config; the other arguments, and the errors, are those of `create_model`."""
    name, dtype = config.name, jnp.dtype(config.dtype)
    check_model(config, task="text" if vocabulary else None)
    if name in TEXT_MODELS:
        if vocabulary < 1 or embedding < 1:
            raise InputError(f"vocabulary of {name} is {vocabulary} x {embedding}; expected at least 1 x 1")
        widths = config.filter_widths
        return TextCNN(classes, vocabulary, embedding, config.width, widths, config.dropout, dtype)
    build = partial(IMAGE_MODELS[name], classes=classes, width=config.width, dropout=config.dropout, dtype=dtype)
    if name in RESNETS:
        return build(axis_name=axis_name, stem=config.stem, zero_init_residual=config.zero_init_residual)
    if name == "vgg16":
        return build(axis_name=axis_name, hidden=config.hidden)
    return build(axis_name=axis_name)


def check_model(config: ModelConfig, *, task: str | None = None) -> None:
    """Checks what can be known of a network before the data is read.

    Args:
      config: of the network.
      task: "image" or "text", what the data set holds; None leaves it open.

    Raises:
      InputError: there is no network of that name (the message lists those there are), it takes the
        other kind of data, or it cannot have that width, stem or initialisation.
    """
    name = config.name
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    if task is not None and (name in TEXT_MODELS) != (task == "text"):
        fitting = TEXT_MODELS if task == "text" else IMAGE_MODELS
        raise InputError(f"model.name is {name!r}; expected a network for {task} data: {', '.join(sorted(fitting))}")
    if name not in RESNETS and config.stem != DEFAULTS.stem:
        raise InputError(f"model.stem is {config.stem!r}; expected {DEFAULTS.stem!r}: {name} has no choice of stem")
    if name != "vgg16" and config.hidden:
        raise InputError(f"model.hidden is {config.hidden}; expected 0: {name} has one linear layer at its end")
    if name not in RESNETS and config.zero_init_residual:
        raise InputError(f"model.zero_init_residual is True; expected False: {name} has no such choice")
    if name == "resnext101_32x4d" and 2 * config.width % RESNEXT_GROUPS:
        raise InputError(f"model.width is {config.width}; expected a multiple of {RESNEXT_GROUPS // 2} for {name}")


def init_variables(model: nn.Module, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns a network's initial `params` and `batch_stats`; under `jax.eval_shape`, their shapes."""
    dtype = jnp.float32 if len(input_shape) > 1 else jnp.int32
    variables = model.init(key, jnp.zeros((1, *input_shape), dtype), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
