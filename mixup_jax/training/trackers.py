"""Where a run's metrics go besides `metrics.jsonl`: TensorBoard, Weights & Biases, MLflow.

Each is written by its own library, which is imported when it is used.  None is needed, and none can stop a run.
"""

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from mixup_jax.config import Config, to_dict
from mixup_jax.libraries import load_tensorflow
from mixup_jax.metrics.binning import Bins
from mixup_jax.runs.files import read_object, write_json
from mixup_jax.runs.workdir import METRICS_FILE

PROJECT = "mixup_jax"
IDS_FILE = "trackers.json"
"""The run's names in the trackers, so that a resumed run continues there."""
DIAGRAM = "validation_reliability"


class TensorBoard:
    """TensorBoard events through clu."""

    def __init__(self, config: Config, workdir: Path) -> None:
        # clu needs TensorFlow, which takes seconds to load.
        load_tensorflow()
        from clu import metric_writers

        self._writer: Any = metric_writers.SummaryWriter(str(workdir))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars by their names, after so many steps."""
        self._writer.write_scalars(step, dict(scalars))

    def write_picture(self, step: int, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        """Writes a picture `[H, W, 3]`, after so many steps."""
        self._writer.write_images(step, {name: pixels[None]})

    def close(self) -> None:
        """Flushes the event file."""
        self._writer.flush()
        self._writer.close()


class Wandb:
    """Weights & Biases; its own environment variables say where to, such as WANDB_MODE=offline."""

    def __init__(self, config: Config, workdir: Path) -> None:
        import wandb

        self._run: Any = wandb.init(
            dir=str(workdir),
            id=_id_of(workdir, "wandb", lambda: uuid4().hex),
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=config.experiment or workdir.name,
            config=to_dict(config),
        )
        self._image = wandb.Image

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs scalars; those of a step that is not later than the last one are ignored by the library."""
        self._run.log(dict(scalars), step=step)

    def write_picture(self, step: int, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        """Logs an image."""
        self._run.log({name: self._image(pixels)}, step=step)

    def close(self) -> None:
        """Ends the library's process."""
        self._run.finish()


class Mlflow:
    """MLflow at MLFLOW_TRACKING_URI; without that, files in the run's folder `mlruns`."""

    def __init__(self, config: Config, workdir: Path) -> None:
        import mlflow

        place = os.environ.get("MLFLOW_TRACKING_URI")
        if not place:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # without it newer versions ask for a database
            place = (workdir.resolve() / "mlruns").as_uri()
        self._entities, self._client = mlflow.entities, mlflow.MlflowClient(place)
        self._run = _id_of(workdir, "mlflow", lambda: self._new_run(config, workdir))
        self._client.update_run(self._run, status="RUNNING")

    def _new_run(self, config: Config, workdir: Path) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        run: str = self._client.create_run(experiment, run_name=config.experiment or workdir.name).info.run_id
        for key, value in _flat(to_dict(config)):
            self._client.log_param(run, key, value)
        return run

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs scalars."""
        now = int(1000 * time.time())
        self._client.log_batch(self._run, [self._entities.Metric(key, x, now, step) for key, x in scalars.items()])

    def write_picture(self, step: int, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        """Logs an image as an artefact."""
        self._client.log_image(self._run, pixels, f"{name}/{step}.png")

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self._run)


Tracker = TensorBoard | Wandb | Mlflow

TRACKERS: dict[str, tuple[Callable[[Config, Path], Tracker], tuple[str, ...]]] = {
    "tensorboard": (TensorBoard, ("tensorflow", "tensorboard")),
    "wandb": (Wandb, ("wandb",)),
    "mlflow": (Mlflow, ("mlflow",)),
}
"""The names in `config.loggers` -> the class, and the packages that it needs.  The extras have the same names."""


class Careful:
    """A tracker whose first failure is reported and ends it, but not the run."""

    def __init__(self, name: str, tracker: Tracker, report: Callable[[str], None]) -> None:
        self._name, self._tracker, self._report = name, tracker, report
        self._failed = False

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            call(*arguments)
        except Exception as error:  # a library and a network may raise anything
            self._failed = True
            self._report(f"{self._name} gets nothing more, because it failed ({error}); all is in {METRICS_FILE}")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes each scalar under its name."""
        self._try(self._tracker.write, step, scalars)

    def write_reliability(self, step: int, bins: Bins) -> None:
        """Writes the reliability diagram of a validation as a picture."""
        # Imported here, because matplotlib takes a second to load.
        from mixup_jax import figures

        with freeing_cycles():
            pixels = figures.to_pixels(figures.reliability_diagram(bins, title=f"validation, step {step}"))
        self._try(self._tracker.write_picture, step, DIAGRAM, pixels)

    def sync(self) -> int:
        """Returns 0, since it has no lines."""
        return 0

    def close(self) -> None:
        """Writes what is left."""
        self._try(self._tracker.close)


def _id_of(workdir: Path, name: str, make: Callable[[], str]) -> str:
    """Returns the run's id in a tracker: the one that is kept in its folder, else a new one, which is kept."""
    path = workdir / IDS_FILE
    ids = read_object(path) if path.exists() else {}
    if name not in ids:
        ids[name] = make()
        write_json(path, ids)
    return str(ids[name])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@contextlib.contextmanager
def freeing_cycles() -> Iterator[None]:
    """Frees, at the end of the block, the objects that it left in reference cycles.

    A figure leaves an image and 7,000 objects in cycles. If Python's garbage collector ran while a figure is drawn,
    they would move to the oldest generation, which is collected only after about twenty figures. With the collector off
    they stay in the youngest generation, which takes 3 ms to collect; a full collection would take 200 ms.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        gc.collect(0)
