"""From a checkpoint to records: restores the network and computes the logits of data sets.

Every example is computed exactly once, on any number of devices.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mixup_jax.config import Config
from mixup_jax.data.augment import input_shape, inputs_of
from mixup_jax.data.catalog import is_shift
from mixup_jax.data.load import run_spec
from mixup_jax.data.sets import DatasetSpec, ExampleSet, Inputs, batches_of
from mixup_jax.data.text import Vocabulary
from mixup_jax.devices.mesh import by_rows, device_mesh, process_rows
from mixup_jax.errors import InputError
from mixup_jax.libraries import fast_to_run
from mixup_jax.metrics.features import Training
from mixup_jax.models import model_of, shapes_of
from mixup_jax.progress import duration
from mixup_jax.runs.records import Predictions
from mixup_jax.store.checkpoint import Checkpoints

Logits = npt.NDArray[np.float32]
Predict = Callable[[Mapping[str, Any], Inputs], Logits]
"""Maps variables and all inputs of a data set `[N, ...]`, images in pixel units, to logits `[N, K]` on the host."""
Forward = Callable[[Mapping[str, Any], jax.Array, jax.Array], jax.Array]
"""Maps variables, a batch of inputs `[B, ...]` and the numbers of its examples `[B]` to logits `[B, K]`."""

OWN_SPLITS = ("test", "validation")
"""The names of the sets that are splits of the run's own data set; every other name is that of another data set."""


@dataclass(frozen=True)
class Network:
    """The network of a checkpoint.

    Attributes:
      variables: `params` and `batch_stats`.
      standardise: maps pixels to the network's inputs; the identity for text.
    """

    config: Config
    spec: DatasetSpec
    model: nn.Module
    variables: Mapping[str, Any]
    standardise: Callable[[jax.Array], jax.Array]
    forward: Forward
    mesh: Mesh


def restore(
    checkpoints: Checkpoints,
    step: int,
    config: Config,
    vocabulary: Vocabulary | None = None,
    data_dir: Path | None = None,
    spec: DatasetSpec | None = None,
) -> Network:
    """Returns the network of a step, on all devices; text needs `vocabulary`.

    `spec` is the entry of the training set; without it, a user's own set is looked up in `data_dir`.
    """
    spec, mesh = spec or run_spec(config.data, data_dir), device_mesh()
    words = 0 if vocabulary is None else len(vocabulary)
    model = model_of(config.model, classes=spec.classes, vocabulary=words, embedding=config.data.vector_size)
    like = shapes_of(model, input_shape(spec, config.data))
    variables, standardise = checkpoints.restore_variables(step, like, mesh), inputs_of(spec)
    return Network(config, spec, model, variables, standardise, plain(model, standardise), mesh)


def plain(model: nn.Module, standardise: Callable[[jax.Array], jax.Array]) -> Forward:
    """Returns the usual prediction: without dropout, normalised by the running statistics."""
    return lambda variables, inputs, _: model.apply(variables, standardise(inputs), train=False)


def predict_records(
    network: Network,
    sets: Mapping[str, ExampleSet],
    meta: Mapping[str, Any],
    report: Callable[[str], None],
    *,
    features: bool = False,
) -> dict[str, Predictions]:
    """Returns the record of every set by name, in the first process only; all processes must call it together.

    Names are those in `OWN_SPLITS` or of other data sets.  With `features`, the records also hold the penultimate
    features.
    """
    forward = with_features(network) if features else network.forward
    predict = make_predict(forward, network.mesh, batch_size=network.config.evaluation.batch_size)
    total = sum(len(data.inputs) for data in sets.values())
    done, before, start = 0, 0, 0.0  # the clock starts after the first set, which waits for the compiler
    records = {}
    for name, data in sets.items():
        found = predict(network.variables, data.inputs)
        if jax.process_index() == 0:  # only there, because reading the labels of a streamed set takes time
            record = record_of(found[:, : network.spec.classes], name, data, network.spec, meta)
            beyond = found[:, network.spec.classes :].astype(np.float16) if features else None
            records[name] = replace(record, features=beyond)
        done += len(data.inputs)
        if not before:
            before, start = done, time.monotonic()
        left = (time.monotonic() - start) * (total - done) / max(done - before, 1)
        estimate = "to be measured" if before == done < total else duration(left)
        report(f"predicted {name}: {done:,} of {total:,} examples | ETA {estimate}")
    return records


def with_features(network: Network) -> Forward:
    """Returns the usual prediction, `[B, K + D]`: the logits, then the input of the network's last layer."""

    def forward(variables: Mapping[str, Any], inputs: jax.Array, rows: jax.Array) -> jax.Array:
        logits, (_, features) = _to_last_layer(network, variables, inputs)
        return jnp.concatenate([logits, features.astype(logits.dtype)], axis=1)

    return forward


def training_features(
    network: Network, train: ExampleSet, meta: Mapping[str, Any], report: Callable[[str], None]
) -> Training | None:
    """Returns the features of training examples without augmentation, and the last layer, in the first process only."""
    paths = list[tuple[str, ...]]()

    def note_path(variables: Mapping[str, Any], inputs: jax.Array) -> jax.Array:
        logits, (path, _) = _to_last_layer(network, variables, inputs)
        paths.append(path)
        return logits

    shape = (1, *input_shape(network.spec, network.config.data))
    nothing = jnp.zeros(shape, jnp.int32 if network.spec.task == "text" else jnp.uint8)
    jax.eval_shape(note_path, network.variables, nothing)
    layer = network.variables["params"]
    for part in paths[0]:
        layer = layer[part]
    records = predict_records(network, {"train": train}, meta, report, features=True)
    if not records:
        return None
    features = records["train"].features
    assert features is not None
    return Training(features, train.labels, *(_on_host(layer[name]) if name in layer else None for name in _HEAD))


_HEAD = ("kernel", "bias")


def _on_host(array: jax.Array) -> npt.NDArray[np.float32]:
    return np.asarray(array.addressable_data(0), np.float32)


def _to_last_layer(
    network: Network, variables: Mapping[str, Any], inputs: jax.Array
) -> tuple[jax.Array, tuple[tuple[str, ...], jax.Array]]:
    """Returns the logits, and the path and the input of the last linear layer that is called."""
    calls = list[tuple[tuple[str, ...], jax.Array]]()

    def note(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            calls.append((context.module.path, arguments[0]))
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        logits = network.model.apply(variables, network.standardise(inputs), train=False)
    if not calls or calls[-1][1].ndim != 2:
        raise InputError(f"{network.config.model.name} has no last linear layer; expected one to take features before")
    return logits, calls[-1]


def record_of(logits: Logits, name: str, data: ExampleSet, spec: DatasetSpec, meta: Mapping[str, Any]) -> Predictions:
    """Returns the record of a set; its metadata names the data set, the split and their source."""
    dataset, split = (spec.name, name) if name in OWN_SPLITS else (name, "test")
    origin: dict[str, Any] = {"dataset": dataset, "split": split, "source": data.source}
    if spec.class_names:
        origin["class_names"] = list(spec.class_names)
    if is_shift(dataset, spec):
        origin["shift_of"] = spec.name
    return Predictions(logits, data.labels, {**origin, **meta})


def make_predict(forward: Forward, mesh: Mesh, *, batch_size: int) -> Predict:
    """Returns `predict(variables, inputs) -> logits`, compiled once for all data sets.

    Inputs are in memory or streamed.  The last batch is padded with zeros, whose logits are discarded, so any number of
    examples is allowed.

    `batch_size` is rounded up to a multiple of the number of devices.
    """
    batch_size = shared_batch(batch_size, mesh.devices.size)
    sharding, mine, compiled = by_rows(mesh), process_rows(mesh, batch_size), jitted(forward, mesh)

    def predict(variables: Mapping[str, Any], inputs: Inputs) -> Logits:
        pending = []
        for number, some in enumerate(batches_of(inputs, batch_size, mine)):
            local = _filled(some, len(mine)), (number * batch_size + mine).astype(np.int32)
            batch, rows = (jax.make_array_from_process_local_data(sharding, part) for part in local)
            pending.append((rows, compiled(variables, batch, rows)))
        return _in_order(pending, len(inputs))

    return predict


def shared_batch(batch_size: int, devices: int) -> int:
    """Returns the batch size rounded up to a multiple of the number of devices."""
    return -(-batch_size // devices) * devices


def jitted(forward: Forward, mesh: Mesh) -> Any:
    """Returns `forward` compiled for a batch that is sharded over a mesh, and so are its logits."""
    options = fast_to_run(mesh.devices.flat[0].platform)
    return jax.jit(forward, out_shardings=by_rows(mesh), compiler_options=options)


def _filled(inputs: npt.NDArray[Any], batch_size: int) -> npt.NDArray[Any]:
    missing = batch_size - len(inputs)
    return np.pad(inputs, ((0, missing), *((0, 0),) * (inputs.ndim - 1))) if missing else inputs


def _in_order(pending: Sequence[tuple[jax.Array, jax.Array]], examples: int) -> Logits:
    """Returns the logits of all examples in order, from the (logits, example numbers) that all processes hold."""
    rows = np.concatenate([_held(numbers) for numbers, _ in pending])
    values = np.concatenate([_held(logits) for _, logits in pending]).astype(np.float32)
    if jax.process_count() > 1:
        rows, values = (np.concatenate(parts) for parts in multihost_utils.process_allgather((rows, values)))
    real = rows < examples
    rows, values = rows[real], values[real]
    if not np.array_equal(np.sort(rows), np.arange(examples)):
        raise AssertionError(f"{len(np.unique(rows))} of {examples} examples gave {len(rows)} predictions")
    return values[np.argsort(rows)]


def _held(array: jax.Array) -> npt.NDArray[Any]:
    """Returns the rows on the devices of this process, device by device."""
    return np.concatenate([np.asarray(shard.data) for shard in array.addressable_shards])
