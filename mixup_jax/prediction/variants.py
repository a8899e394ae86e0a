"""Prediction by Monte Carlo dropout, with batch statistics of clean examples, and by ODIN."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from mixup_jax.config import Config
from mixup_jax.data.load import load_training_data
from mixup_jax.data.sets import ExampleSet
from mixup_jax.errors import InputError
from mixup_jax.models.layers import BATCH_NORM_MOMENTUM
from mixup_jax.models.own import is_own
from mixup_jax.prediction.predict import Forward, Network
from mixup_jax.runs.workdir import DERIVED
from mixup_jax.state import run_keys

ODIN_TEMPERATURE = 1000.0
ODIN_EPSILONS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
"""Steps in units of the standardised input; the temperature and the larger steps are those of ODIN's papers."""
ODIN_EXAMPLES = 1000

Apply = Callable[[jax.Array], jax.Array]
"""Maps inputs `[B, ...]` to logits `[B, K]`; each row depends on its own input only."""


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """How a network predicts; the defaults give the usual prediction.

    Attributes:
      mc_dropout: the number of passes of Monte Carlo dropout whose probabilities are averaged; 0 is no dropout.
      batch_norm_examples: the number of clean training examples from which batch statistics are computed again;
        0 keeps the running averages of training.
    """

    mc_dropout: int = 0
    batch_norm_examples: int = 0

    def __post_init__(self) -> None:
        for flag, number in vars(self).items():
            if number < 0:
                raise InputError(f"--{flag}={number}; expected a positive number")

    def check(self, config: Config) -> None:
        """Raises InputError if a network of this config cannot predict in this way."""
        if self.mc_dropout and not config.model.dropout:
            raise InputError(
                f"--mc_dropout={self.mc_dropout}, but it was trained without dropout (model.dropout is 0), so "
                'all passes would be the same; expected a run with dropout, such as the variant "dropout"'
            )
        if is_own(config.model.name) and self.batch_norm_examples:
            raise InputError(
                f"--batch_norm_examples={self.batch_norm_examples}, but the momentum of {config.model.name}'s batch "
                "normalisation is not known; expected a network of the package"
            )

    def config(self, config: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Returns the config for the records: the run's, with the options of this class in `derived` and its name."""
        changes = {key: number for key, number in vars(self).items() if number}
        if not changes:
            return dict(config)
        marks = {"mc_dropout": f"+mc{self.mc_dropout}", "batch_norm_examples": f"+bn{self.batch_norm_examples}"}
        experiment = (config.get("experiment") or name) + "".join(marks[key] for key in changes)
        return {**config, "experiment": experiment, DERIVED: changes}

    def apply(self, network: Network, data_dir: Path, report: Callable[[str], None]) -> Network:
        """Returns the network that predicts in this way; with Monte Carlo dropout its outputs are log-probabilities.

        Random numbers are drawn from the run's seed, so the same command gives the same records.
        """
        masks, chosen = jax.random.split(run_keys(network.config.seed).evaluation)
        if self.batch_norm_examples:
            inputs = _clean_inputs(network.config, self.batch_norm_examples, chosen, data_dir)
            report(f"measuring batch statistics on {self.batch_norm_examples:,} clean training examples")
            size = network.config.evaluation.batch_size
            statistics = clean_statistics(
                network.model, network.variables, network.standardise, inputs, batch_size=size
            )
            network = replace(network, variables={**network.variables, "batch_stats": statistics})
        if self.mc_dropout:
            forward = mc_dropout(network.model, network.standardise, passes=self.mc_dropout, key=masks)
            network = replace(network, forward=forward)
        return network


def mc_dropout(
    model: nn.Module, standardise: Callable[[jax.Array], jax.Array], *, passes: int, key: jax.Array
) -> Forward:
    """Returns prediction by Monte Carlo dropout, whose outputs are log-probabilities.

    log(1/T sum_t softmax(f(x, mask_t))): the mean over T passes with dropout, where batch normalisation uses its
    running statistics (Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016, equation 6).
    The mask of example i in pass t depends on `key`, t and i only, not on the batch or the devices.
    """

    def log_mean(variables: Mapping[str, Any], images: jax.Array, rows: jax.Array) -> jax.Array:
        inputs = standardise(images)

        def one_pass(number: jax.Array) -> jax.Array:
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, number)))(rows)
            return jax.nn.log_softmax(model.apply(variables, inputs, train=False, dropout_keys=keys))

        return jax.nn.logsumexp(jax.lax.map(one_pass, jnp.arange(passes)), axis=0) - math.log(passes)

    return log_mean


def _clean_inputs(config: Config, examples: int, key: jax.Array, data_dir: Path) -> npt.NDArray[Any]:
    """Returns `examples` of a run's training inputs, drawn by a key, in the order of the data set."""
    inputs = load_training_data(config.data, data_dir).train.inputs
    if examples > len(inputs):
        raise InputError(
            f"--batch_norm_examples={examples}, but the run has {len(inputs)} training examples; expected at most these"
        )
    return inputs[np.sort(np.asarray(jax.random.permutation(key, len(inputs))[:examples]))]


def clean_statistics(
    model: nn.Module,
    variables: Mapping[str, Any],
    standardise: Callable[[jax.Array], jax.Array],
    inputs: npt.NDArray[Any],
    *,
    batch_size: int,
) -> Any:
    """Returns batch statistics, the mean and variance over all given examples, as a tree like `batch_stats`.

    After training on mixed inputs, the running averages are those of mixed activations, but test examples are clean.

    Here earlier layers normalise by the statistics of each batch.  Over batches of
    n_b examples with means m_b and variances v_b,

        mean = sum_b n_b m_b / N        variance = sum_b n_b (v_b + m_b^2) / N - mean^2

    so that all examples have the same weight, unlike in a running average.

    The batches differ in size by at most one.
    """
    if not jax.tree.leaves(variables["batch_stats"]):
        raise InputError(
            "the network has no batch normalisation, whose statistics could be measured anew; "
            "expected a checkpoint of one that has"
        )
    # Starting from zero, one update gives the batch's statistic times 1 - momentum.
    zero = {"params": variables["params"], "batch_stats": jax.tree.map(jnp.zeros_like, variables["batch_stats"])}

    @jax.jit
    def moments(batch: jax.Array) -> Any:
        _, updates = model.apply(zero, standardise(batch), train=True, mutable=["batch_stats"])
        return jax.tree.map(lambda moved: moved / (1 - BATCH_NORM_MOMENTUM), updates["batch_stats"])

    total = jax.tree.map(lambda part: np.zeros(part.shape), zero["batch_stats"])
    for batch in np.array_split(inputs, -(-len(inputs) // batch_size)):
        share = len(batch) / len(inputs)
        # In float64: the difference below is small where the mean is far from 0, or the activation is constant.
        wide = jax.tree.map(lambda part: np.asarray(part, np.float64), jax.device_get(moments(batch)))
        parts = _each_layer(wide, lambda mean, var: {"mean": mean, "var": var + mean**2})
        total = jax.tree.map(lambda sum_, part, share=share: sum_ + share * part, total, parts)
    found = _each_layer(total, lambda mean, square: {"mean": mean, "var": np.maximum(square - mean**2, 0.0)})
    return jax.tree.map(lambda part: part.astype(np.float32), found)


def _each_layer(statistics: Mapping[str, Any], change: Callable[[Any, Any], dict[str, Any]]) -> dict[str, Any]:
    """Returns the tree with each layer's `mean` and `var` replaced by `change(mean, var)`."""
    if "mean" in statistics:
        return change(statistics["mean"], statistics["var"])
    return {name: _each_layer(below, change) for name, below in statistics.items()}


def with_odin(network: Network, validation: ExampleSet) -> tuple[Network, float]:
    """Returns the network whose outputs are ODIN's logits, and the epsilon chosen on validation images."""

    def logits_of(variables: Mapping[str, Any], inputs: jax.Array) -> jax.Array:
        return network.model.apply(variables, inputs, train=False)

    def forward(variables: Mapping[str, Any], images: jax.Array, _: jax.Array) -> jax.Array:
        inputs, apply = network.standardise(images), partial(logits_of, variables)
        return odin_logits(apply, inputs, temperature=ODIN_TEMPERATURE, epsilon=epsilon)

    some = network.standardise(jnp.asarray(validation.inputs[:ODIN_EXAMPLES]))
    apply = jax.jit(partial(logits_of, network.variables))
    epsilon = choose_epsilon(apply, some, ODIN_EPSILONS, temperature=ODIN_TEMPERATURE)
    return replace(network, forward=forward), epsilon


def odin_logits(apply: Apply, inputs: jax.Array, *, temperature: float, epsilon: float) -> jax.Array:
    """Returns f(x') / T with x' = x + epsilon sign(grad_x log max_k softmax_k(f(x) / T)), float32 `[B, K]`.

    Source: Liang et al. (2018, arXiv:1706.02690), equations 1 and 2.  The step raises the confidence, and more so for
    in-distribution inputs.  The function is pure and can be jitted; at epsilon 0 it is f(x) / T.  The ODIN score is
    `metrics.msp_score` of these logits, and other metrics can be computed from them too.

    Args:
      apply: the network f.
      inputs: `[B, ...]`, floating point, as `apply` takes them.  Epsilon has their unit, which after standardisation
        is one standard deviation.
      temperature: T, a finite number above 0; 1000 in the paper.
      epsilon: the step, at least 0; chosen on validation data (`choose_epsilon`), never on test data.
    """
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature of ODIN is {temperature}; expected a finite number above 0")
    if not 0 <= epsilon < float("inf"):
        raise InputError(f"epsilon of ODIN is {epsilon}; expected a finite number of at least 0")

    def log_confidence(x: jax.Array) -> jax.Array:
        # Rows are independent, so the gradient of the sum consists of the gradients of the rows.
        return _log_confidence(apply(x).astype(jnp.float32) / temperature).sum()

    moved = inputs + epsilon * jnp.sign(jax.grad(log_confidence)(inputs))
    return apply(moved).astype(jnp.float32) / temperature


def choose_epsilon(apply: Apply, validation: jax.Array, candidates: Sequence[float], *, temperature: float) -> float:
    """Returns the candidate with the highest mean confidence on in-distribution validation inputs, the first of equals.

    This is the rule of Hsu et al. (2020, arXiv:2002.11297), section 3.3.  It uses no out-of-distribution examples.
    """
    if not candidates:
        raise InputError("no candidates for ODIN's epsilon; expected at least one number")

    def mean_confidence(epsilon: float) -> float:
        logits = odin_logits(apply, validation, temperature=temperature, epsilon=epsilon)
        return float(jnp.exp(_log_confidence(logits)).mean())

    return max(candidates, key=mean_confidence)


def _log_confidence(logits: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(logits).max(axis=-1)
