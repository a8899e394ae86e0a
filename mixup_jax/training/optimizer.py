"""Optimisers with weight decay and bounds, learning rate schedules, and the moving average of weights."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mixup_jax.config import OptimizerConfig
from mixup_jax.errors import InputError, unknown_name
from mixup_jax.state import TrainState
from mixup_jax.store.weights import HEAD

BACKBONE = "backbone"
"""In `optimizer.freeze`: every layer but the head."""


def learning_rate(config: OptimizerConfig, *, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate of step s (counted from 0), for a run of `epochs` epochs.

    "steps": learning_rate * step_factor^(number of step_epochs that have passed).
    "cosine": learning_rate * (1 + cos(pi * s / S)) / 2, where S is the number of steps of the run.
    A warm-up of w epochs multiplies either by a + (1 - a) min(1, (s + 1) / (w * steps_per_epoch)), where
    a = warmup_start / learning_rate (Goyal et al. 2017, section 2.2; they start from the rate of one worker).
    """
    if config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(config.learning_rate, epochs * steps_per_epoch)
    else:
        boundaries = {epoch * steps_per_epoch: config.step_factor for epoch in config.step_epochs}
        decay = optax.piecewise_constant_schedule(config.learning_rate, boundaries)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if not warmup_steps:
        return decay
    low = config.warmup_start / config.learning_rate
    return lambda step: decay(step) * (low + (1 - low) * jnp.minimum(1.0, (step + 1) / warmup_steps))


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimiser that a config describes.

    The gradient is first clipped to `clip_norm`.  Weight decay is added to it next (g + wd * p), for every parameter
    or, without `decay_norm_and_bias`, for kernels and embeddings only.  The learning rate multiplies last.  PyTorch,
    the paper's framework, does the same.  "adadelta" is Zeiler's (2012) with rho = 0.95 and epsilon = 1e-6, as in
    Kim (EMNLP 2014); its usual learning rate is 1.  "adam" has the usual constants (0.9, 0.999, 1e-8) and L2
    regularisation.  "adamw" (Loshchilov and Hutter 2019), "lion" (Chen et al. 2023) and "lamb" (You et al. 2020) have
    the constants of optax and decoupled decay.

    With `accumulate`, the update is that of the mean gradient of so many batches, and is zero at the others; `schedule`
    counts batches.  Batches that are left at the end of a run have no effect.
    """
    mask, decay, every = None if config.decay_norm_and_bias else _is_weight, config.weight_decay, config.accumulate

    def rate(updates: Any) -> Any:
        return schedule(updates * every)

    coupled = optax.add_decayed_weights(decay, mask=mask)
    steps = {
        "sgd": lambda: (coupled, optax.sgd(rate, momentum=config.momentum or None, nesterov=config.nesterov)),
        "adadelta": lambda: (coupled, optax.adadelta(rate, rho=0.95, eps=1e-6)),
        "adam": lambda: (coupled, optax.adam(rate)),
        "adamw": lambda: (optax.adamw(rate, weight_decay=decay, mask=mask),),
        "lion": lambda: (optax.lion(rate, weight_decay=decay, mask=mask),),
        "lamb": lambda: (optax.lamb(rate, weight_decay=decay, mask=mask),),
    }
    optimizer = optax.chain(*steps[config.name]())
    if config.freeze or config.backbone_rate != 1:
        optimizer = optax.chain(optimizer, by_layer(config))
    if config.max_norm:
        optimizer = optax.chain(optimizer, bounded_head(config.max_norm))
    if config.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if every > 1:
        optimizer = optax.MultiSteps(optimizer, every_k_schedule=every).gradient_transformation()
    return optimizer


def average_of(config: OptimizerConfig, before: TrainState, after: TrainState) -> Any:
    """Returns the moving average of the variables after a step; None if the config asks for none.

    After update t the average is the weighted mean of the variables after the updates s = 1..t, with weights
    proportional to ema^(t - s): the usual average, without the share of the initial weights (Kingma and Ba 2015,
    section 3, their correction of the bias).  At a batch whose gradient is only accumulated it does not change.
    Updates are counted by the optimiser, which does not count skipped steps.
    """
    if not config.ema:
        return None
    if config.accumulate == 1:
        counts = optax.tree_utils.tree_get_all_with_path(after.opt_state, "count")
        updates, updated = counts[-1][1], jnp.bool_(True)
    else:
        counters = after.opt_state.inner if isinstance(after.opt_state, WithClasses) else after.opt_state
        updates, updated = counters.gradient_step, counters.mini_step == 0
    log = math.log(config.ema)
    share = jnp.where(updated, jnp.expm1(log) / jnp.expm1(jnp.maximum(updates, 1) * log), 0.0)
    return jax.tree.map(lambda mean, new: mean + share * (new - mean), before.average, after.trained)


def logged_rate(config: OptimizerConfig, schedule: optax.Schedule) -> optax.Schedule:
    """Returns the learning rate of the update to which each batch belongs, given that of each batch."""
    return lambda step: schedule(step // config.accumulate * config.accumulate)


def by_layer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Returns the transformation that gives each layer its share of the learning rate.

    It is 0 for frozen layers, so that weight decay does not change them either, `backbone_rate` for the others, and 1
    for the head.
    """

    def factor(path: Any) -> float:
        if is_frozen(config, path):
            return 0.0
        return 1.0 if in_head(path) else config.backbone_rate

    return optax.stateless(
        lambda updates, _: jax.tree_util.tree_map_with_path(lambda path, leaf: leaf * factor(path), updates)
    )


def without_frozen(config: OptimizerConfig, params: Any) -> Any:
    """Returns the parameters, of which the frozen ones have no gradient."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.lax.stop_gradient(leaf) if is_frozen(config, path) else leaf, params
    )


def is_frozen(config: OptimizerConfig, path: Any) -> bool:
    """Returns whether a parameter does not change."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return any(name.startswith(each) or (each == BACKBONE and not in_head(path)) for each in config.freeze)


def in_head(path: Any) -> bool:
    """Returns whether a parameter is the last layer's."""
    return any(part.key == HEAD for part in path)


def check_layers(config: OptimizerConfig, params: Any, name: str) -> None:
    """Raises InputError unless a network has the layers that are to be treated otherwise than the others."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    for each in config.freeze:
        if each != BACKBONE and not any(one.startswith(each) for one in names):
            layers = dict.fromkeys(one.partition("/")[0] for one in names)
            raise unknown_name(f"layer of {name} in optimizer.freeze", each, [BACKBONE, *layers])
    if paths and all(is_frozen(config, path) for path in paths):
        raise InputError(f"optimizer.freeze is {config.freeze}, every layer of {name}; expected one that is trained")
    if (config.backbone_rate != 1 or BACKBONE in config.freeze) and not any(map(in_head, paths)):
        raise InputError(
            f"optimizer.backbone_rate is {config.backbone_rate} and optimizer.freeze {config.freeze}, but {name} has "
            f"no layer {HEAD!r}; expected 1 and names of layers, or that name for its last layer"
        )
    if config.max_norm and "kernel" not in params.get(HEAD, {}):
        raise InputError(f"optimizer.max_norm is {config.max_norm}; expected 0: {name} has no {HEAD}/kernel")


class WithClasses(NamedTuple):
    """The state of an optimiser, and which classes are mixed: float32 `[K]`, 1 or 0 (CAMixup)."""

    inner: Any
    mixed: jax.Array


def with_classes(optimizer: optax.GradientTransformation, classes: int) -> optax.GradientTransformation:
    """Returns the same optimiser, whose state also holds which classes are mixed: none until a validation says so."""

    def update(updates: Any, state: WithClasses, params: Any = None) -> tuple[Any, WithClasses]:
        updates, inner = optimizer.update(updates, state.inner, params)
        return updates, state._replace(inner=inner)

    return optax.GradientTransformation(lambda params: WithClasses(optimizer.init(params), jnp.zeros(classes)), update)


def _is_weight(params: Any) -> Any:
    """Returns, for each parameter, False for a bias or a scale of batch normalisation, else True."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)


def bounded_head(max_norm: float) -> optax.GradientTransformation:
    """Returns the transformation that keeps each class's weight vector in the last layer at most `max_norm` long.

    After the update, a column w of the kernel `[D, K]` with |w| > max_norm becomes w * max_norm / |w|
    (Hinton et al. 2012, section 2; Kim 2014, section 3.1).  Biases do not change.
    """

    def update(updates: Any, params: Any) -> Any:
        kernel = params[HEAD]["kernel"]
        wanted = kernel + updates[HEAD]["kernel"]
        length = jnp.linalg.norm(wanted, axis=0)
        bounded = wanted * jnp.minimum(1.0, max_norm / jnp.maximum(length, max_norm / 2))
        return {**updates, HEAD: {**updates[HEAD], "kernel": bounded - kernel}}

    return optax.stateless(update)
