"""The pictures that a run keeps of its most confident mistakes and of the most confident foreign inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import UNLABELLED
from mixup_jax.metrics.ood_scores import msp_score
from mixup_jax.runs.arrays_file import UNREADABLE, read_npz
from mixup_jax.runs.files import LARGEST
from mixup_jax.runs.records import Predictions, write_arrays

PICTURES_FILE = "pictures.npz"
ARRAYS = ("step", "sets", "rows", "predicted", "images")
MISTAKES, FOREIGN = 10, 5
"""The number of pictures that are kept of the test set, and of each other set."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some examples of the sets that a checkpoint was evaluated on.

    Attributes:
      step: of the checkpoint.
      sets: the name of each example's data set, `[n]`.
      rows: its row in the record of that set, int64 `[n]`.
      predicted: its predicted class, int64 `[n]`.
      images: uint8 `[n, H, W, C]`, C 1 or 3.
    """

    step: int
    sets: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]

    def of(self, dataset: str) -> Pictures:
        """Returns the examples of one set, in their order."""
        chosen = self.sets == dataset
        return Pictures(self.step, self.sets[chosen], self.rows[chosen], self.predicted[chosen], self.images[chosen])


def most_confident(record: Predictions, n: int) -> npt.NDArray[np.int64]:
    """Returns the rows of the n most confident predictions that are no right ones, the most confident first."""
    wrong = np.flatnonzero((record.labels == UNLABELLED) | (record.logits.argmax(axis=1) != record.labels))
    order = np.argsort(msp_score(record.logits)[wrong], kind="stable")
    return wrong[order[:n]]


def pictures_of(records: Mapping[str, Predictions], inputs: Mapping[str, Any], step: int) -> Pictures | None:
    """Returns the pictures of the most confident mistakes of "test", and of every set but "validation".

    `inputs` are those of each record, by its name.  None for texts, and if there is nothing to show.
    """
    shown = [name for name in records if name != "validation"]
    chosen = {name: most_confident(records[name], MISTAKES if name == "test" else FOREIGN) for name in shown}
    if not any(map(len, chosen.values())) or any(len(inputs[name][:1].shape) != 4 for name in shown):
        return None
    images = [np.rint(np.clip(inputs[name][rows], 0, 255)).astype(np.uint8) for name, rows in chosen.items()]
    return Pictures(
        step,
        np.array([records[name].meta["dataset"] for name, rows in chosen.items() for _ in rows]),
        np.concatenate(list(chosen.values())),
        np.concatenate([records[name].logits[rows].argmax(axis=1) for name, rows in chosen.items()]),
        np.concatenate(images),
    )


def save_pictures(folder: Path, pictures: Pictures) -> None:
    """Writes the pictures of a run into its folder; raises OSError where that cannot be written."""
    write_arrays(folder / PICTURES_FILE, {name: np.asarray(getattr(pictures, name)) for name in ARRAYS})


def load_pictures(folder: Path, step: int, sizes: Mapping[str, int]) -> Pictures | None:
    """Returns the pictures of a run at a step, all of examples that its records have; None if it has none of that step.

    `sizes` are the numbers of examples of its records, by the names of the data sets.
    """
    path = folder / PICTURES_FILE
    if not path.is_file():
        return None
    try:
        found, _ = read_npz(path, ARRAYS, LARGEST)
        pictures = Pictures(int(found["step"]), *(found[name] for name in ARRAYS[1:]))
        whole = _is_whole(pictures) and all(
            row in range(sizes.get(name, 0))
            for name, row in zip(pictures.sets.tolist(), pictures.rows.tolist(), strict=True)
        )
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({error}); expected a whole file: delete it") from error
    if pictures.step != step:
        return None
    if not whole:
        raise InputError(f"{path} does not fit the records of its run; expected those of this evaluation: delete it")
    return pictures


def _is_whole(pictures: Pictures) -> bool:
    n = len(pictures.images)
    return (
        (pictures.images.dtype, pictures.images.ndim) == (np.uint8, 4)
        and pictures.images.shape[3] in (1, 3)
        and pictures.images.size > 0
        and pictures.sets.dtype.kind == "U"
        and all(one.dtype.kind == "i" and one.shape == (n,) for one in (pictures.rows, pictures.predicted))
        and pictures.sets.shape == (n,)
    )
