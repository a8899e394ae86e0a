"""The one step over many devices, mapped in either of two ways.

"jit": one program over a mesh. The batch is sharded, the state replicated, and batch normalisation
sees the global batch because the program does.
"pmap": one program per device. Gradients, batch statistics and metrics cross devices by psum and pmean, the examples of
a mixing group that lies on several devices by all_gather.

Everything random is drawn for the global batch, so both ways, on any number of devices, train on
the same mixed pairs and agree up to float rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.data.feed import Feed
from mixup_jax.devices.axis import local_rows
from mixup_jax.devices.mesh import AXIS
from mixup_jax.errors import InputError
from mixup_jax.libraries import fast_to_run
from mixup_jax.methods.method import Method
from mixup_jax.state import TrainState
from mixup_jax.training.step import Metrics, TrainStep


@dataclass(frozen=True)
class MappedStep:
    """A training step over all devices.

    Attributes:
      function: of jit or pmap; it has the method `lower`.
      first: what it takes before the step's own arguments.
      finish: maps what it returns to the state and the metrics.
    """

    function: Any
    first: tuple[jax.Array, ...] = ()
    finish: Callable[[Any], Any] = lambda result: result

    def __call__(self, *arguments: Any) -> tuple[TrainState, Metrics]:
        """Takes the step; returns the state and the metrics."""
        result: tuple[TrainState, Metrics] = self.finish(self.function(*self.first, *arguments))
        return result


def check_divisible(batch_size: int, devices: int) -> None:
    """Checks that the devices can share the batch, before anything is compiled.

    Raises:
      InputError: the batch is no multiple of the devices.
    """
    if batch_size % devices:
        raise InputError(
            f"batch_size is {batch_size}, which {devices} devices cannot share equally; "
            f"expected a multiple of {devices}"
        )


def splits_groups(batch_size: int, method: Method, devices: int) -> bool:
    """Returns whether a device holds part of a mixing group, so that mixing needs examples of other devices."""
    return method.mixes and bool((batch_size // devices) % method.group(batch_size))


def make_step(train_step: TrainStep, feed: Feed, mesh: Mesh, *, parallel: str) -> MappedStep:
    """Returns `step(state, *fed, keys) -> (state, metrics)`, of what `feed.fed` yields.

    It makes the batch of `state.step` and takes a training step.  The state is donated: its buffers are
    reused and the caller's copy is gone.

    Args:
      train_step: made with `axis_name=AXIS` for pmap and without for jit.
      feed: makes the batch.
      mesh: of the devices to use, which need not be of this machine where it is only lowered.
      parallel: "jit" or "pmap".
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

    return _pmap(step, mesh, feed.device_axis) if parallel == "pmap" else _jit(step, mesh)


def _jit(step: Callable[..., Any], mesh: Mesh) -> MappedStep:
    everywhere = NamedSharding(mesh, PartitionSpec())
    options = fast_to_run(mesh.devices.flat[0].platform)
    return MappedStep(jax.jit(step, donate_argnums=0, out_shardings=everywhere, compiler_options=options))


def _pmap(step: Callable[..., Any], mesh: Mesh, batch_axis: int | None) -> MappedStep:
    # pmap wants one argument with a device axis; all the others but a batch, the state too, are the same
    # on every device and go in and come out without one.
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
    # What pmap returns belongs to this process alone; it is the same in all.
    everywhere = NamedSharding(mesh, PartitionSpec())
    return MappedStep(mapped, (ids,), partial(jax.tree.map, partial(_shared, everywhere)))


def _shared(everywhere: NamedSharding, leaf: jax.Array) -> jax.Array:
    copies = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, everywhere, copies)
