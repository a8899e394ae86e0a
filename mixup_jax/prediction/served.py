"""A trained network as it is used: class, calibrated probabilities, and how unlike the training data an input is.

`write_artefacts` makes of it files that run without this package: StableHLO by `jax.export`, TensorFlow's SavedModel.
"""

import csv
import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from mixup_jax.config import from_dict
from mixup_jax.data.augment import input_shape
from mixup_jax.data.load import recorded_spec
from mixup_jax.data.own import Given, decoded
from mixup_jax.errors import InputError
from mixup_jax.escapes import spreadsheet
from mixup_jax.libraries import load_tensorflow
from mixup_jax.metrics.temperature import fit_temperature
from mixup_jax.models.own import fixed_batch, is_own
from mixup_jax.prediction.predict import Forward, Logits, Network, make_predict, restore, with_features
from mixup_jax.runs.files import write_atomically, write_json
from mixup_jax.runs.records import Predictions, load_record, no_labels
from mixup_jax.runs.workdir import check_own, provenance, record_path, require_checkpoints
from mixup_jax.store.checkpoint import Checkpoints

TOP = 5
AT_ONCE = 2048
"""The number of images that are held in memory."""
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
NETWORK, FACTS, SAVED_MODEL = "network.stablehlo", "network.json", "saved_model"


@dataclass(frozen=True)
class Served:
    """A network of images, and what its validation examples say about its outputs.

    Attributes:
      network: of one checkpoint.
      step: of the checkpoint.
      config: of the run, as its records carry it.
      temperature: fitted on the validation examples.
      energies: the free energy of each validation example, float32, ascending.
    """

    network: Network
    step: int
    config: Mapping[str, Any]
    temperature: float
    energies: jax.Array

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; their numbers where they have none."""
        return self.network.spec.class_names or tuple(map(str, range(self.network.spec.classes)))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape (H, W, C) of an image."""
        return input_shape(self.network.spec, self.network.config.data)

    def outputs(self, logits: jax.Array) -> dict[str, jax.Array]:
        """Returns what is said of inputs with these logits `[B, K]`.

        Returns:
          `logits`; `probabilities` `[B, K]`, softmax(logits / temperature); `unlike` `[B]` in [0, 1], the share of the
          validation examples whose free energy -logsumexp(logits) is lower (Liu et al. 2020, arXiv:2010.03759).
        """
        lower = jnp.searchsorted(self.energies, energies_of(logits))
        return {
            "logits": logits,
            "probabilities": jax.nn.softmax(logits / self.temperature),
            "unlike": lower / len(self.energies),
        }


def energies_of(logits: jax.Array) -> jax.Array:
    """Returns the free energy of each row of logits, float32 `[B]`; higher is more foreign."""
    return -jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)


def open_served(
    workdir: Path,
    checkpoint: str = "last",
    data_dir: Path | None = None,
    *,
    portable: bool = False,
) -> Served:
    """Returns the network of an evaluated checkpoint; the data that it was trained on need not be there.

    With `portable` it has no kernels of this package, so that it can be exported.
    """
    with Checkpoints(require_checkpoints(workdir), read_only=True) as checkpoints:
        step = checkpoints.step_of(checkpoint)
        facts = checkpoints.restore_facts(step)
        recorded = check_own(workdir, step, facts["config"])
        config = from_dict(facts["config"])
        spec = recorded_spec(facts, config.data, data_dir)
        if spec.task != "image":
            raise InputError(f"{workdir} is a network of {spec.task}s; expected one of images")
        record = record_path(workdir, f"{spec.name}/validation", step)
        if not record.is_file():
            chosen = f" --checkpoint={checkpoint}" if checkpoint != "last" else ""
            raise InputError(
                f"{workdir} is not evaluated at step {step} ({record} does not exist), so there is no temperature; "
                f"run: python -m mixup_jax.evaluate --workdir={workdir}{chosen}"
            )
        if portable:
            config = replace(config, model=replace(config.model, cpu_convolution=False))
        network = restore(checkpoints, step, config, spec=spec)
    held_out = load_record(record)
    energies = jnp.sort(energies_of(jnp.asarray(held_out.logits)))
    return Served(network, step, recorded, fit_temperature(held_out.logits, held_out.labels), energies)


class Answer(NamedTuple):
    """What is said of one image.

    Attributes:
      classes: the names of the (at most five) most probable classes, the first of them its class.
      probabilities: theirs, calibrated.
      unlike: the share of the validation examples that look more like the training data.
    """

    image: str
    classes: Sequence[str]
    probabilities: Sequence[float]
    unlike: float

    def __str__(self) -> str:
        (name, *others), (confidence, *rest) = self.classes, self.probabilities
        also = ", ".join(f"{other} {share:.3f}" for other, share in zip(others, rest, strict=True))
        return f"{self.image}: {name} {confidence:.3f} (unlike {self.unlike:.3f}; {also})"


def answers(served: Served, given: Sequence[Given], broken: list[str]) -> Iterator[Answer]:
    """Yields what is said of each image that can be decoded; the others are added to `broken`, with the reasons."""
    names = np.array(served.class_names)
    for whole, logits in _predicted(served, served.network.forward, given, broken):
        out = jax.device_get(served.outputs(jnp.asarray(logits)))
        best = np.argsort(-out["probabilities"], axis=1, kind="stable")[:, :TOP]
        for one, row, chosen, unlike in zip(whole, out["probabilities"], best, out["unlike"], strict=True):
            yield Answer(one.name, names[chosen].tolist(), row[chosen].tolist(), float(unlike))


def record_of_images(
    served: Served, given: Sequence[Given], broken: list[str], *, features: bool = False
) -> Predictions:
    """Returns the record, without labels, of the images that can be decoded; `broken` is as in `answers`.

    With `features` it also holds the penultimate features.  InputError if no image can be decoded.
    """
    forward = with_features(served.network) if features else served.network.forward
    parts = list(_predicted(served, forward, given, broken))
    if not parts:
        raise InputError(f"none of {len(given)} images can be read, the first: {broken[0]}; expected whole images")
    found, classes = np.concatenate([values for _, values in parts]), served.network.spec.classes
    logits, beyond = found[:, :classes], found[:, classes:].astype(np.float16) if features else None
    images = [one.name for whole, _ in parts for one in whole]
    meta = {"step": served.step, "config": served.config, "images": images}
    return Predictions(logits, no_labels(logits), meta, features=beyond)


def _predicted(
    served: Served, forward: Forward, given: Sequence[Given], broken: list[str]
) -> Iterator[tuple[list[Given], Logits]]:
    """Yields some of the images that can be decoded, at least one, and what `forward` returns for them."""
    network = served.network
    size = min(network.config.evaluation.batch_size, len(given))
    predict, spec = (
        make_predict(forward, network.mesh, batch_size=size),
        network.spec.sized(network.config.data.image_size),
    )
    for whole, images, failed in decoded(given, spec, AT_ONCE):
        broken += failed
        if whole:
            yield whole, predict(network.variables, images)


def table(found: Sequence[Answer]) -> bytes:
    """Returns a CSV file with image, class, confidence, unlike, and the next classes with their probabilities."""
    text, others = io.StringIO(), range(2, 1 + len(found[0].classes) if found else 2)
    writer = csv.writer(text, lineterminator="\n")
    also = [f"{what}_{place}" for place in others for what in ("class", "probability")]
    writer.writerow(["image", "class", "confidence", "unlike", *also])
    for one in found:
        pairs = zip(map(spreadsheet, one.classes), one.probabilities, strict=True)
        (name, confidence), *rest = [(name, f"{share:.6f}") for name, share in pairs]
        cells = [cell for pair in rest for cell in pair]
        writer.writerow([spreadsheet(one.image), name, confidence, f"{one.unlike:.6f}", *cells])
    return text.getvalue().encode(errors="backslashreplace")


def facts_of(served: Served) -> Mapping[str, Any]:
    """Returns what a user of an exported network must know, JSON-serialisable."""
    return {
        "input": {"dtype": "uint8", "shape": [None, *served.input_shape]},
        "outputs": ["logits", "probabilities", "unlike"],
        "class_names": list(served.class_names),
        "temperature": served.temperature,
        "step": served.step,
        "experiment": served.network.config.experiment,
        "data": served.network.spec.description,
    }


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
