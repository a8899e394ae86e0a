"""The most confident mistakes of a network, and the foreign inputs of which it is most confident."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mixup_jax.data.sets import ExampleSet
from mixup_jax.metrics.logits import UNLABELLED
from mixup_jax.metrics.ood_scores import msp_score
from mixup_jax.runs.pictures import Pictures
from mixup_jax.runs.records import Predictions

MISTAKES, FOREIGN = 10, 5
"""The number of pictures that are kept of the test set, and of each other set."""


def most_confident(record: Predictions, n: int) -> npt.NDArray[np.int64]:
    """Returns the rows of the n most confident predictions that are no right ones, the most confident first."""
    wrong = np.flatnonzero((record.labels == UNLABELLED) | (record.logits.argmax(axis=1) != record.labels))
    order = np.argsort(msp_score(record.logits)[wrong], kind="stable")
    return wrong[order[:n]]


def pictures_of(records: Mapping[str, Predictions], sets: Mapping[str, ExampleSet], step: int) -> Pictures | None:
    """Returns the pictures of the most confident mistakes of "test", and of every set but "validation".

    None for texts, and if there is nothing to show.
    """
    shown = [name for name in records if name != "validation"]
    chosen = {name: most_confident(records[name], MISTAKES if name == "test" else FOREIGN) for name in shown}
    if not any(map(len, chosen.values())) or any(len(sets[name].inputs[:1].shape) != 4 for name in shown):
        return None
    images = [np.rint(np.clip(sets[name].inputs[rows], 0, 255)).astype(np.uint8) for name, rows in chosen.items()]
    return Pictures(
        step,
        np.array([records[name].meta["dataset"] for name, rows in chosen.items() for _ in rows]),
        np.concatenate(list(chosen.values())),
        np.concatenate([records[name].logits[rows].argmax(axis=1) for name, rows in chosen.items()]),
        np.concatenate(images),
    )
