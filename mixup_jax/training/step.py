"""The training step: one pure function for every method, and the ways to map it over devices.

    batch -> standardise -> network, which calls `mix` -> loss -> gradient -> new state

A method is a set of numbers (`Method`), not a step of its own.  The step is the same for images and for text.
`make_step` maps it over many devices in one of two ways:

"jit": one program over a mesh. The batch is sharded and the state replicated. Batch normalisation uses the global
batch, because the program sees all of it.
"pmap": one program per device. Gradients, batch statistics and metrics are combined by psum and pmean. The examples of
a mixing group that spans devices are exchanged by all_gather.

Everything random is drawn for the global batch.  So both ways train on the same mixed pairs on any number of devices,
and agree up to float rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.data.feed import Feed
from mixup_jax.devices.mesh import AXIS, local_rows, sum_over_devices
from mixup_jax.errors import InputError
from mixup_jax.libraries import fast_to_run
from mixup_jax.methods import losses
from mixup_jax.methods.method import Method
from mixup_jax.methods.mixing import dropout_keys, mix_batch
from mixup_jax.state import Batch, TrainState

Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    method: Method,
    *,
    classes: int,
    standardise: Callable[[jax.Array], jax.Array],
    axis_name: str | None = None,
    mesh: Mesh | None = None,
    average: Callable[[TrainState, TrainState], Any] | None = None,
    running_statistics: bool = False,
    frozen: Callable[[Any], Any] = lambda params: params,
) -> TrainStep:
    """Returns `train_step(state, batch, key) -> (state, metrics)`, pure and ready to be compiled.

    The step draws lambda with `jax.random.beta` from `fold_in(key, state.step)`.  So all steps use the key of the
    run, and a resumed run draws the same numbers as one that was not interrupted.

    Metrics, each a float32 scalar over the global batch: `loss` (the minimised loss, nats), `accuracy_mixed`
    (the share of rows whose largest logit is at the largest target; under mixing it is far below the accuracy
    on clean examples; with `clean_weight` the clean rows have that weight), and `mixing` (the mean of
    min(lambda, 1 - lambda)).

    With `method.adapt_classes` the optimiser must be one of `with_classes`.

    Under pmap `axis_name` is the mapped axis, with which the network must be made too, and a device gets its rows of
    the global batch.  Under jit the step sees the whole batch, which is sharded over `mesh`.

    `average` returns the new moving average of the variables from the states before and after the step.  With
    `running_statistics`, batch normalisation uses the running statistics and does not change them.  `frozen` returns
    the parameters without the gradients of those that do not change, so that no gradient is computed for them.
    """
    places = model.places if method.layer == "random" else 0

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        features = None
        if method.looks_first:
            features = deepest(model, state, standardise(batch.inputs))
        mixed_classes = state.opt_state.mixed if method.adapt_classes else None
        mixed = mix_batch(
            method,
            batch,
            key,
            classes=classes,
            places=places,
            features=features,
            mixed_classes=mixed_classes,
            axis_name=axis_name,
            mesh=mesh,
        )
        keys = dropout_keys(method, batch, key, axis_name)
        # The package's networks draw from the rows' keys; flax's own dropout, in a user's network, needs one key.
        draws = {"mix": mixed.mix, "dropout_keys": keys, "rngs": {"dropout": keys[0]}}
        total = sum_over_devices(jnp.sum(mixed.weights), axis_name)

        def loss_of(params: object) -> tuple[jax.Array, tuple[jax.Array, object]]:
            variables = {"params": frozen(params), "batch_stats": state.batch_stats}
            inputs = standardise(batch.inputs)
            learns = not running_statistics
            logits, updates = model.apply(variables, inputs, train=learns, mutable=["batch_stats"], **draws)
            logits = mixed.unmix(logits)
            loss = losses.batch_loss(method, logits, mixed, total, axis_name)
            return loss, (logits, updates.get("batch_stats", {}) if learns else state.batch_stats)

        (loss, (logits, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        gradient = sum_over_devices(gradient, axis_name)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        hits = mixed.weights * (jnp.argmax(logits, -1) == jnp.argmax(mixed.targets, -1))
        metrics = {
            "loss": sum_over_devices(loss, axis_name),
            "accuracy_mixed": sum_over_devices(jnp.sum(hits), axis_name) / total,
            "mixing": mixed.strength,
        }
        new = TrainState(state.step + 1, params, batch_stats, opt_state)
        return new._replace(average=None if average is None else average(state, new)), metrics

    return train_step


def deepest(model: nn.Module, state: TrainState, inputs: jax.Array) -> jax.Array:
    """Returns the mean over positions of what the network shows at its deepest place, `[B, D]`, unmixed.

    That is a ResNet's features before its last layer; for a network without hidden places, the mean of its embeddings.
    """
    shown: list[jax.Array] = []

    def show(hidden: jax.Array, place: int) -> jax.Array:
        shown.append(hidden)
        return hidden

    rngs = {"dropout": jax.random.key(0)}  # of flax's own dropout, which a user's network may have
    model.apply(state.trained, inputs, train=True, mutable=["batch_stats"], mix=show, rngs=rngs)
    hidden = shown[-1]
    return jnp.mean(hidden.reshape(hidden.shape[0], -1, hidden.shape[-1]), axis=1)


def skipping(train_step: TrainStep) -> TrainStep:
    """Returns a step that leaves the state unchanged if the loss or the new state is not finite.

    A skipped step still counts as a step, so the order of the data does not change.  Its metrics are 0, except
    `skipped`, which is 1; for other steps `skipped` is 0.

    Under a mapped axis, loss and state must be the same on every device.
    """

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        new, metrics = train_step(state, batch, key)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((new, metrics["loss"]))]))
        kept = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state)
        counted = {name: jnp.where(finite, value, 0) for name, value in metrics.items()}
        return kept._replace(step=new.step), counted | {"skipped": 1.0 - finite}

    return step


@dataclass(frozen=True)
class MappedStep:
    """A training step over all devices.

    Attributes:
      first: arguments that it takes before those of the step.
      finish: maps its result to the state and the metrics.
    """

    function: Any
    first: tuple[jax.Array, ...] = ()
    finish: Callable[[Any], Any] = lambda result: result

    def __call__(self, *arguments: Any) -> tuple[TrainState, Metrics]:
        """Takes the step; returns the state and the metrics."""
        result: tuple[TrainState, Metrics] = self.finish(self.function(*self.first, *arguments))
        return result


def check_divisible(batch_size: int, devices: int) -> None:
    """Raises InputError unless the batch size is a multiple of the number of devices."""
    if batch_size % devices:
        raise InputError(
            f"batch_size is {batch_size}, which {devices} devices cannot share equally; "
            f"expected a multiple of {devices}"
        )


def splits_groups(batch_size: int, method: Method, devices: int) -> bool:
    """Returns whether a mixing group spans devices, so that they must exchange examples."""
    return method.mixes and bool((batch_size // devices) % method.group(batch_size))


def make_step(train_step: TrainStep, feed: Feed, mesh: Mesh, *, parallel: str) -> MappedStep:
    """Returns `step(state, *fed, keys) -> (state, metrics)`, where `feed.fed` yields `fed`.

    It makes the batch of `state.step` and takes a training step.  The state is donated: its buffers are
    reused, so the caller must not use it again.

    For pmap, `train_step` must be made with `axis_name=AXIS`.  If the step is only lowered, the devices of the mesh
    need not exist on this machine.
    """
    axis_name = AXIS if parallel == "pmap" else None

    def share(drawn: Any) -> Any:
        if axis_name is None:
            return jax.lax.with_sharding_constraint(drawn, NamedSharding(mesh, PartitionSpec(AXIS)))
        return local_rows(drawn, axis_name)

    def step(state: TrainState, *arguments: Any) -> tuple[TrainState, Metrics]:
        *fed, (augment_key, step_key) = arguments
        batch = feed.batch(tuple(fed), state.step, jax.random.fold_in(augment_key, state.step), share)
        return train_step(state, batch, step_key)

    if parallel == "pmap":
        return _pmap(step, mesh, feed.device_axis)
    everywhere, options = NamedSharding(mesh, PartitionSpec()), fast_to_run(mesh.devices.flat[0].platform)
    return MappedStep(jax.jit(step, donate_argnums=0, out_shardings=everywhere, compiler_options=options))


def _pmap(step: Callable[..., Any], mesh: Mesh, batch_axis: int | None) -> MappedStep:
    # pmap needs one argument with a device axis.  Apart from a batch, all arguments and results, such as the state,
    # are the same on every device and have no device axis.
    mapped = jax.pmap(
        lambda _, *arguments: step(*arguments),
        axis_name=AXIS,
        in_axes=(0, None, batch_axis, batch_axis, None),
        out_axes=None,
        donate_argnums=1,
        devices=list(mesh.devices.flat),
    )
    ids = jnp.arange(mesh.local_mesh.devices.size)
    if jax.process_count() == 1:
        return MappedStep(mapped, (ids,))
    # The arrays that pmap returns belong to this process only, but their values are the same in all processes.
    everywhere = NamedSharding(mesh, PartitionSpec())
    return MappedStep(mapped, (ids,), partial(jax.tree.map, partial(_shared, everywhere)))


def _shared(everywhere: NamedSharding, leaf: jax.Array) -> jax.Array:
    copies = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, everywhere, copies)
