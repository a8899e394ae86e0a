"""A network brought back from a checkpoint, and what it says about sets of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from mixup_jax.config import Config
from mixup_jax.data.catalog import DatasetSpec, dataset_spec
from mixup_jax.data.inputs import input_shape, inputs_of
from mixup_jax.data.stream import AnySet
from mixup_jax.data.tokens import Vocabulary
from mixup_jax.devices.mesh import device_mesh
from mixup_jax.models import init_variables, model_of
from mixup_jax.prediction.odin import choose_epsilon, odin_logits
from mixup_jax.prediction.predict import Network, Predict, make_predict, network_of
from mixup_jax.progress import duration
from mixup_jax.store.checkpoint import Checkpoints

ODIN_TEMPERATURE = 1000.0
ODIN_EPSILONS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
"""Steps in units of the standardised input; the temperature and the larger steps are those of the method's papers."""
ODIN_EXAMPLES = 1000


@dataclass(frozen=True)
class Restored:
    """The network of a checkpoint.

    Attributes:
      config: of its run.
      spec: of the data set it was trained on.
      model: the network as a flax module.
      network: maps variables and standardised inputs to logits.
      variables: `params` and `batch_stats`.
      inputs_of: maps pixels to standardised inputs.
      mesh: of the devices to predict on.
    """

    config: Config
    spec: DatasetSpec
    model: nn.Module
    network: Network
    variables: Mapping[str, Any]
    inputs_of: Callable[[jax.Array], jax.Array]
    mesh: Mesh


def restore(checkpoints: Checkpoints, step: int, config: Config, vocabulary: Vocabulary | None = None) -> Restored:
    """Returns the network of a step, on all devices of this process; text needs its vocabulary."""
    spec, mesh = dataset_spec(config.data.name), device_mesh()
    words = 0 if vocabulary is None else len(vocabulary)
    model = model_of(config.model, classes=spec.classes, vocabulary=words, embedding=config.data.vector_size)
    shape = input_shape(spec, config.data)
    like = jax.eval_shape(partial(init_variables, model, input_shape=shape), jax.random.key(0))
    variables = checkpoints.restore_variables(step, like, mesh)
    return Restored(config, spec, model, network_of(model), variables, inputs_of(spec), mesh)


def logits_of_sets(
    restored: Restored, network: Network, sets: Mapping[str, AnySet], report: Callable[[str], None]
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the logits of every set, float32 `[N, K]`, with a line of progress after each.

    Args:
      restored: whose variables are used.
      network: `restored.network`, or another one made of it.
      sets: images by name.
      report: takes the lines.
    """
    predict = make_predict(network, restored.inputs_of, restored.mesh, batch_size=restored.config.evaluation.batch_size)
    return predict_sets(predict, restored.variables, sets, report)


def predict_sets(
    predict: Predict, variables: Mapping[str, Any], sets: Mapping[str, AnySet], report: Callable[[str], None]
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns what `predict` says of every set, by name, with a line of progress after each."""
    start, done, total = time.monotonic(), 0, sum(len(data.labels) for data in sets.values())
    logits = {}
    for name, data in sets.items():
        logits[name] = predict(variables, data.inputs)
        done += len(data.labels)
        remaining = (time.monotonic() - start) * (total - done) / done
        report(f"predicted {name}: {done:,} of {total:,} examples | ETA {duration(remaining)}")
    return logits


def odin_network(restored: Restored, validation: AnySet) -> tuple[Network, float]:
    """Returns the network that gives ODIN's logits, and the epsilon that was chosen on validation images."""

    @jax.jit
    def apply(inputs: jax.Array) -> jax.Array:
        return restored.network(restored.variables, inputs)

    inputs = restored.inputs_of(jax.numpy.asarray(validation.inputs[:ODIN_EXAMPLES]))
    epsilon = choose_epsilon(apply, inputs, ODIN_EPSILONS, temperature=ODIN_TEMPERATURE)

    def network(variables: Mapping[str, Any], inputs: jax.Array) -> jax.Array:
        return odin_logits(partial(restored.network, variables), inputs, temperature=ODIN_TEMPERATURE, epsilon=epsilon)

    return network, epsilon
