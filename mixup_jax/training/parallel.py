"""The training step over many devices, mapped in one of two ways.

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

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.data.feed import Feed
from mixup_jax.devices.mesh import AXIS, local_rows
from mixup_jax.errors import InputError
from mixup_jax.libraries import fast_to_run
from mixup_jax.methods.method import Method
from mixup_jax.state import TrainState
from mixup_jax.training.step import Metrics, TrainStep


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
