"""The settings of a run: every number that can be set, its default and its range.

Only the dataclasses below have defaults.  `base_config` returns them as a ConfigDict, which config
files change and `--config.KEY=VALUE` overrides; `from_dict` makes a checked, immutable `Config` of it.  No other
function of the package sees a ConfigDict.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mixup_jax.errors import InputError, require, require_choice, unknown_name
from mixup_jax.methods.method import Method, variant

if TYPE_CHECKING:  # what reads configs needs no ConfigDict
    from ml_collections import ConfigDict

PARALLEL = ("jit", "pmap")
OPTIMIZERS = ("sgd", "adadelta", "adam", "adamw", "lion", "lamb")
POLICIES = ("", "randaugment", "trivialaugment")
SCHEDULES = ("steps", "cosine")
STATISTICS = ("own", "imagenet")
PADDINGS = ("same", "torch")
NORMS = ("batch", "running")
DTYPES = ("float32", "bfloat16")
CROPS = ("pad", "random_resized")
ON_NAN = ("stop", "skip")
BEST = ("accuracy", "refinement")
WIDEST = 65_536
"""The largest width of a layer: far beyond any network's, and small enough that no size of an array overflows."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples are trained on, and how they are augmented.

    Attributes:
      name: a data set of the catalogue.
      train_examples: how many training examples to use; 0 takes all that validation leaves.
      validation_examples: how many of the training split are held out for every choice that is
        made (best epoch, temperature); never the test split.  0 holds out a tenth.
      split_seed: the seed of that split; separate from `seed`, so that runs of different seeds share their validation
        set and can be paired.
      crop: of images, at random: "pad", after zero-padding; "random_resized", 8 % to 100 % of an image's area brought
        to one size, for sets that are streamed (of those of the catalogue the only one).
      crop_padding: pixels on each side of the crop after padding; 0 is off.
      image_size: height and width that ImageNet's and a user's own images are brought to; 0 is the data set's own.
      workers: processes that decode photographs which are cut at random; 0 decodes in threads.  The result does not
        depend on it.
      flip: random horizontal flip.
      rotation: random rotation by up to so many degrees either way; 0 is off.
      policy: random operations on images, "randaugment" or "trivialaugment"; empty is none.
      policy_layers: of RandAugment: how many operations follow each other.
      policy_strength: of RandAugment: their strength, out of 30.
      statistics: mean and deviation by which colour images are standardised: the set's "own", or those of "imagenet",
        which pretrained weights know.
      erase: the probability that a random box of an image is erased.
      max_tokens: the length of every text; longer ones are cut.
      vectors: the word vectors that a text network begins with: "glove_6b_50d", the path of a GloVe text
        file, or empty for random ones.
      vector_size: E, the length of a word's vector.
      common_words: how many of the first (commonest) words of the vectors' file are in the vocabulary even if no
        training text has them, so that other texts do not consist of unknown words.
    """

    name: str = "fashion_mnist"
    train_examples: int = 0
    validation_examples: int = 5000
    split_seed: int = 0
    crop: str = "pad"
    crop_padding: int = 4
    image_size: int = 0
    workers: int = 8
    flip: bool = True
    rotation: float = 0.0
    policy: str = ""
    policy_layers: int = 2
    policy_strength: int = 9
    erase: float = 0.0
    statistics: str = "own"
    max_tokens: int = 64
    vectors: str = ""
    vector_size: int = 50
    common_words: int = 20_000

    def __post_init__(self) -> None:
        require(self.train_examples >= 0, "data.train_examples", self.train_examples, "a number >= 0 (0 takes all)")
        held_out = self.validation_examples
        require(held_out >= 0, "data.validation_examples", held_out, "a number >= 0 (0 holds out a tenth)")
        require_choice("data.crop", self.crop, CROPS)
        require(self.crop_padding >= 0, "data.crop_padding", self.crop_padding, "a number of pixels >= 0")
        require(self.image_size >= 0, "data.image_size", self.image_size, "a number of pixels >= 0 (0: the set's own)")
        require(self.workers >= 0, "data.workers", self.workers, "a number of processes >= 0")
        require(0 <= self.rotation <= 180, "data.rotation", self.rotation, "degrees in [0, 180]")
        require_choice("data.policy", self.policy, POLICIES)
        require(1 <= self.policy_layers <= 14, "data.policy_layers", self.policy_layers, "operations from 1 to 14")
        require(0 <= self.policy_strength <= 30, "data.policy_strength", self.policy_strength, "a number from 0 to 30")
        randomly = self.policy == "randaugment" or (self.policy_layers, self.policy_strength) == (2, 9)
        numbers = f"{self.policy_layers} and {self.policy_strength}"
        require(randomly, "data.policy_layers and policy_strength", numbers, "2 and 9, without data.policy=randaugment")
        require_choice("data.statistics", self.statistics, STATISTICS)
        require(0 <= self.erase <= 1, "data.erase", self.erase, "a probability in [0, 1]")
        require(self.max_tokens >= 1, "data.max_tokens", self.max_tokens, "a positive number of tokens")
        require(1 <= self.vector_size <= WIDEST, "data.vector_size", self.vector_size, f"a number from 1 to {WIDEST}")
        require(self.common_words >= 0, "data.common_words", self.common_words, "a number of words >= 0")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network.

    Attributes:
      name: a network of `mixup_jax.models`, or a class from elsewhere, `package.module:Class`.
      settings: of such a class, values of its fields, as in ("depth=3", "activation=gelu").
      width: channels of the first stage.
      hidden: of vgg16, the width of two hidden layers before the last (4096 in the original); 0 is none.
      dropout: rate in [0, 1) of the network's dropout layers; 0 is none.
      dtype: compute type; parameters, statistics and logits stay float32.
      stem: of a ResNet: "cifar", a 3x3 convolution, or "imagenet", a 7x7 convolution of stride 2 and
        max-pooling of stride 2.
      padding: of a ResNet: "same", XLA's, or "torch", PyTorch's, by which a filter of stride 2 begins one pixel earlier
        on an even side.
      weights: what the network begins with: a .pth or .safetensors file of torchvision or timm, or the folder of a
        run, whose last checkpoint is taken; empty for random weights.
      norm: what batch normalisation uses in training: "batch", the batch's statistics, or "running", the running
        ones, which then stay as they are.
      zero_init_residual: every block of a ResNet starts as its shortcut alone.
      filter_widths: of the sentence CNN, in tokens; each has `width` feature maps.
      cpu_convolution: on a CPU, use the package's convolutions where they are faster than XLA's; off: XLA's alone.
    """

    name: str = "resnet18"
    settings: tuple[str, ...] = ()
    width: int = 64
    dropout: float = 0.0
    dtype: str = "float32"
    stem: str = "cifar"
    hidden: int = 0
    zero_init_residual: bool = False
    padding: str = "same"
    weights: str = ""
    norm: str = "batch"
    filter_widths: tuple[int, ...] = (3, 4, 5)
    cpu_convolution: bool = True

    def __post_init__(self) -> None:
        require(1 <= self.width <= WIDEST, "model.width", self.width, f"a number of channels from 1 to {WIDEST}")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a rate in [0, 1)")
        require_choice("model.dtype", self.dtype, DTYPES)
        require_choice("model.padding", self.padding, PADDINGS)
        require_choice("model.norm", self.norm, NORMS)

    @property
    def label(self) -> str:
        """The network in words: its name and its width or, of a class from elsewhere, its settings."""
        return ", ".join((self.name, *(self.settings if ":" in self.name else [f"width {self.width}"])))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser, and its learning rate over time.

    Attributes:
      name: "sgd" (with momentum), "adadelta" (whose own rate is 1), "adam", "adamw", "lion" or "lamb".
      learning_rate: the initial (peak) rate.
      momentum: of sgd; 0 is plain gradient descent.
      nesterov: Nesterov's form of momentum; of sgd.
      max_norm: no class's weight vector of the last layer grows longer than this; 0 is off.
      weight_decay: added to the gradient as weight_decay * parameter, for every parameter (the form
        of the paper's framework, before momentum); with adamw, lion and lamb to the step instead, which the learning
        rate multiplies (decoupled).
      decay_norm_and_bias: off: weight decay spares biases and the scales of batch normalisation.
      schedule: "steps" multiplies the rate by `step_factor` at each of `step_epochs`; "cosine"
        falls to 0 along half a cosine over all epochs.
      step_epochs: increasing epochs.
      step_factor: in (0, 1].
      warmup_epochs: linear rise at the start; may be a fraction of an epoch.
      warmup_start: the rate that it rises from.
      clip_norm: a gradient whose norm, over all parameters, is larger is scaled to it; 0 is off.
      accumulate: batches whose mean gradient makes one update.
      freeze: layers whose parameters stay as they begin: beginnings of their names, or "backbone" for every layer but
        the head.
      backbone_rate: factor of the learning rate for every layer but the head.
      ema: decay in [0, 1) of a moving average of the weights and batch statistics over the updates, which is what is
        validated and predicted with; 0 is off.
    """

    name: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    max_norm: float = 0.0
    weight_decay: float = 5e-4
    decay_norm_and_bias: bool = True
    schedule: str = "steps"
    step_epochs: tuple[int, ...] = (60, 120, 160)
    step_factor: float = 0.2
    warmup_epochs: float = 0.0
    warmup_start: float = 0.0
    clip_norm: float = 0.0
    accumulate: int = 1
    freeze: tuple[str, ...] = ()
    backbone_rate: float = 1.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        require_choice("optimizer.name", self.name, OPTIMIZERS)
        rate, decay = self.learning_rate, self.weight_decay
        require(math.isfinite(rate) and rate > 0, "optimizer.learning_rate", rate, "a finite number > 0")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "a number in [0, 1)")
        require(math.isfinite(decay) and decay >= 0, "optimizer.weight_decay", decay, "a finite number >= 0")
        bound = self.max_norm
        require(math.isfinite(bound) and bound >= 0, "optimizer.max_norm", bound, "a finite length >= 0 (0 is off)")
        require(0 < self.step_factor <= 1, "optimizer.step_factor", self.step_factor, "a number in (0, 1]")
        increasing = all(a < b for a, b in zip((0, *self.step_epochs), self.step_epochs, strict=False))
        require(
            increasing, "optimizer.step_epochs", self.step_epochs, "increasing positive epochs, such as (60, 120, 160)"
        )
        warmup = self.warmup_epochs
        require(math.isfinite(warmup) and warmup >= 0, "optimizer.warmup_epochs", warmup, "a finite number >= 0")
        start = self.warmup_start
        require(0 <= start <= rate, "optimizer.warmup_start", start, f"a rate from 0 to learning_rate ({rate})")
        require_choice("optimizer.schedule", self.schedule, SCHEDULES)
        bound = self.clip_norm
        require(math.isfinite(bound) and bound >= 0, "optimizer.clip_norm", bound, "a finite norm >= 0 (0 is off)")
        require(self.accumulate >= 1, "optimizer.accumulate", self.accumulate, "a number of batches >= 1")
        rate = self.backbone_rate
        require(0 < rate <= 1, "optimizer.backbone_rate", rate, "a factor in (0, 1] (to freeze: optimizer.freeze)")
        require("" not in self.freeze, "optimizer.freeze", self.freeze, "names of layers, such as backbone")
        require(0 <= self.ema < 1, "optimizer.ema", self.ema, "a decay in [0, 1), such as 0.999 (0 is off)")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What a finished run is evaluated on.

    Attributes:
      ood: names of out-of-distribution sets (data sets of the catalogue, or noise).
      batch_size: examples a step; the result does not depend on it.
      best: what makes a checkpoint the best on validation: the highest "accuracy", or the lowest "refinement", the NLL
        at the temperature that is best for these examples (Berta et al. 2025): what no temperature mends.
      every_epochs: how often validation and a checkpoint are due during training; always at the end.
      ood_examples: how many examples of each out-of-distribution set to take, the same random ones for
        every run; 0 takes all.
      record_epochs: after which epochs the validation logits are kept as records, for figures of how
        confidence develops; 0 is before training.
      ood_near: those of `ood` that are near the data, such as other classes of the same source; the others are far.
        With any, the means of both groups are reported.
      train_features: how many training examples' features are kept where `evaluate` is asked for features, the same
        random ones for every run; 0 keeps all.
    """

    ood: tuple[str, ...] = ("mnist", "gaussian_noise")
    batch_size: int = 500
    best: str = "accuracy"
    every_epochs: int = 1
    ood_examples: int = 0
    record_epochs: tuple[int, ...] = ()
    ood_near: tuple[str, ...] = ()
    train_features: int = 50_000

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "evaluation.batch_size", self.batch_size, "a positive number of examples")
        require_choice("evaluation.best", self.best, BEST)
        require(self.every_epochs >= 1, "evaluation.every_epochs", self.every_epochs, "a positive number of epochs")
        require(len(set(self.ood)) == len(self.ood), "evaluation.ood", self.ood, "each name once")
        require(self.ood_examples >= 0, "evaluation.ood_examples", self.ood_examples, "a number >= 0 (0 takes all)")
        require(set(self.ood_near) <= set(self.ood), "evaluation.ood_near", self.ood_near, "names in evaluation.ood")
        require(
            self.train_features >= 0, "evaluation.train_features", self.train_features, "a number >= 0 (0 keeps all)"
        )
        increasing = all(a < b for a, b in zip((-1, *self.record_epochs), self.record_epochs, strict=False))
        require(increasing, "evaluation.record_epochs", self.record_epochs, "increasing epochs, such as (0, 50, 100)")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved besides after each validation, and how many checkpoints are kept.

    Attributes:
      keep: how many of the last checkpoints are kept besides the best; at least 2, so that a run can go back if the
        newest is damaged.
      every_steps: how often the state is also saved within an epoch; 0 is never.
    """

    keep: int = 2
    every_steps: int = 0

    def __post_init__(self) -> None:
        require(self.keep >= 2, "checkpoint.keep", self.keep, "at least 2: the newest and an earlier one")
        require(self.every_steps >= 0, "checkpoint.every_steps", self.every_steps, "a number of steps, or 0 for never")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run.  Its result depends only on this record, not on devices or interruptions.

    Attributes:
      experiment: the name that reports print, such as "fashion_mnist/mixup".
      notes: what a reader of the results must know; printed in the report.
      seed: of initialisation, data order, augmentation and mixing.
      epochs: passes over the training examples.
      batch_size: examples of one optimiser step, over all devices.
      parallel: how the step is mapped over devices; "jit" (one program over a mesh) or "pmap".
      log_every_steps: how often training metrics are written.
      loggers: where metrics go besides metrics.jsonl: "tensorboard" (where it is installed), "wandb", "mlflow".
      tensorboard: off: no "tensorboard", whatever `loggers` says.
      on_nan: what happens at a step whose loss or new state is not finite: "stop" ends the run, "skip" keeps the
        state from before the step and counts it as `train_skipped`.
    """

    experiment: str = ""
    notes: str = ""
    seed: int = 0
    epochs: int = 200
    batch_size: int = 128
    parallel: str = "jit"
    log_every_steps: int = 50
    loggers: tuple[str, ...] = ("tensorboard",)
    tensorboard: bool = True
    on_nan: str = "stop"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: Method = field(default_factory=Method)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", self.seed, "a number in [0, 2^32)")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "a positive number of examples")
        require(self.log_every_steps >= 1, "log_every_steps", self.log_every_steps, "a positive number of steps")
        require_choice("parallel", self.parallel, PARALLEL)
        require_choice("on_nan", self.on_nan, ON_NAN)
        if self.method.mixes:
            self.method.group(self.batch_size)


def base_config() -> ConfigDict:
    """Returns every setting with its default, for a config file to change."""
    from ml_collections import ConfigDict

    return ConfigDict(to_dict(Config()))


def apply_variant(config: ConfigDict, name: str) -> None:
    """Sets `method` of a config to the numbers of a named method, and `model.dropout` if the method has a rate."""
    from ml_collections import ConfigDict

    chosen = variant(name)
    config.method = ConfigDict(to_dict(chosen.method))
    config.model.dropout = config.model.dropout or chosen.dropout


def to_dict(config: Config | Method) -> dict[str, Any]:
    """Returns a config, or a part of it, as nested dicts of plain values."""
    return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any], *, unknown: Literal["refuse", "ignore"] = "refuse") -> Config:
    """Returns the checked config that nested `values` describe; what they leave out has its default.

    Values read from JSON are accepted: a list becomes a tuple.

    A key that no setting has is an error, unless `unknown` is "ignore", which reads the records of other versions.
    """
    return _build(Config, _known(Config, values) if unknown == "ignore" else values, prefix="")


def _known(record: type[Any], values: Any) -> Any:
    """Returns the values without the keys that the record has no field for."""
    if not isinstance(values, Mapping):
        return values
    hints = typing.get_type_hints(record)
    kept = {key: value for key, value in values.items() if key in hints}
    return {key: _known(hints[key], kept[key]) if dataclasses.is_dataclass(hints[key]) else kept[key] for key in kept}


def _build(record: type[Any], values: object, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(f"config key {prefix.rstrip('.')} is {values!r}; expected a group of keys")
    hints = typing.get_type_hints(record)
    for key in values:
        if key not in hints:
            raise unknown_name("config key", prefix + str(key), [prefix + name for name in hints])
    return record(**{key: _convert(hints[key], value, prefix + key) for key, value in values.items()})


def _convert(kind: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type[Any], kind), value, prefix=key + ".")
    if isinstance(kind, types.GenericAlias):
        return _convert_tuple(kind, value, key)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InputError(
            f"config key {key} is {value!r} ({type(value).__name__}); expected a value of type {kind.__name__}"
        )
    if kind is int and abs(value) >= 2**32:
        raise InputError(f"config key {key} is {value}; expected a whole number below 2^32")
    return value


def _convert_tuple(kind: types.GenericAlias, value: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(f"config key {key} is {value!r}; expected a tuple, such as (1, 2)")
    element = typing.get_args(kind)[0]
    return tuple(_convert(element, item, f"{key}[{index}]") for index, item in enumerate(value))
