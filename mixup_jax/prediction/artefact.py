"""A network as a file that runs without this package: StableHLO by `jax.export`, and TensorFlow's SavedModel."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from mixup_jax.libraries import load_tensorflow
from mixup_jax.models.own import fixed_batch, is_own
from mixup_jax.prediction.served import Served, facts_of
from mixup_jax.runs.files import write_atomically, write_json
from mixup_jax.runs.workdir import provenance

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
NETWORK, FACTS, SAVED_MODEL = "network.stablehlo", "network.json", "saved_model"


def portable(served: Served) -> Any:
    """Returns `Served.outputs` of images uint8 `[B, H, W, C]` as a jitted function with the weights inside."""
    network, variables = served.network, jax.device_get(served.network.variables)

    def answer(images: jax.Array) -> dict[str, jax.Array]:
        rows = jnp.arange(images.shape[0])  # only random predictions use them
        return served.outputs(network.forward(variables, images, rows))

    return jax.jit(answer)


def write_artefacts(served: Served, folder: Path, report: Callable[[str], None]) -> list[Path]:
    """Writes the network, its facts and, where TensorFlow is installed, a SavedModel; returns their paths.

    `served` must be portable (`served.open_served`).  The number of images is a symbol: any batch size is taken.

    Raises:
      InputError: the network is the user's, and its program needs a fixed batch size; nothing is written.
    """
    function, (batch,) = portable(served), export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *served.input_shape), jnp.uint8)
    name = served.network.config.model.name
    try:
        blob = export.export(function, platforms=PLATFORMS)(images).serialize()
    except Exception as error:  # anything: the network may be the user's program
        if not is_own(name):
            raise
        raise fixed_batch(name, error) from error
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / NETWORK, bytes(blob))
    write_json(folder / FACTS, {**facts_of(served), "platforms": PLATFORMS, **provenance()})
    written = [folder / NETWORK, folder / FACTS]
    if importlib.util.find_spec("tensorflow") is None:
        report("no SavedModel, which needs TensorFlow (pip install 'mixup_jax[tensorflow]')")
        return written
    _write_saved_model(function, served.input_shape, folder / SAVED_MODEL)
    return [*written, folder / SAVED_MODEL]


def _write_saved_model(function: Any, shape: tuple[int, ...], folder: Path) -> None:
    tf = load_tensorflow()
    from jax.experimental import jax2tf

    converted = jax2tf.convert(
        function, polymorphic_shapes=["batch, ..."], native_serialization_platforms=PLATFORMS, with_gradient=False
    )
    module = tf.Module()
    signature = [tf.TensorSpec([None, *shape], tf.uint8, name="images")]
    module.answer = tf.function(converted, input_signature=signature, autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.answer})
