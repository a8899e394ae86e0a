"""Intervals of a record whose examples are the pixels of images, or the words of texts: whole images are resampled.

Neighbouring pixels are alike, so intervals that took them for independent would be far too narrow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics import table
from mixup_jax.metrics.binning import bin_edges, equal_width_index
from mixup_jax.metrics.calibration import calibration_error, overconfidence_error
from mixup_jax.metrics.examined import Examined
from mixup_jax.metrics.resampling import Counts, interval_around, resample_counts, wilson_interval
from mixup_jax.metrics.softmax import Floats, Ints

BINS = (15, 100)


def counts_by_image(rows: Sequence[int], examples: Examined) -> dict[str, Any]:
    """Returns how many images there are, and how many labelled examples they have: `{"n", "fewest", "mean", "most"}`.

    Args:
      rows: of how many examples each image consists, in the order of the examples.
      examples: of all images.

    Raises:
      InputError: these are not the numbers of examples.
    """
    counts = np.bincount(_image_of(rows, examples), minlength=len(rows))
    return {"n": len(rows), "fewest": int(counts.min()), "mean": float(counts.mean()), "most": int(counts.max())}


def _image_of(rows: Sequence[int], examples: Examined) -> Ints:
    """Returns the image of each labelled example."""
    whole = isinstance(rows, list) and all(type(count) is int and count >= 0 for count in rows)
    if not (whole and sum(rows) == len(examples)):
        raise InputError(f"meta.rows_by_image does not add up to {len(examples)} examples; expected a count an image")
    return np.repeat(np.arange(len(rows)), rows)[examples.labelled]


def intervals_by_image(rows: Sequence[int], examples: Examined) -> dict[str, list[float]]:
    """Returns the 95 % intervals, when images are resampled, of the numbers of labelled examples.

    The numbers are accuracy, mean_confidence, nll, brier, and ece and oe of 15 and 100 bins; the arguments are those of
    `counts_by_image`.
    """
    # Images without a labelled example tell nothing, and a resample of them alone would have no numbers.
    _, image = np.unique(_image_of(rows, examples), return_inverse=True)
    images = int(image.max()) + 1
    sums = _Sums(image, images, examples.only_labelled())
    measured = sums.numbers(np.ones((1, images), np.int64))
    parts = [sums.numbers(weights) for weights in resample_counts(images, 1000, 0)]
    largest = {row.key: row.limits[1] for row in table.METRICS}
    intervals = {}
    for key, (value,) in measured.items():
        replicates = np.concatenate([part[key] for part in parts])
        if np.isfinite(value) and np.isfinite(replicates).all():
            low, high = interval_around(float(value), replicates, 0.95, 0.0)
            intervals[key] = [low, min(high, largest[key])]
    if (accuracy := float(measured["accuracy"][0])) in (0.0, 1.0):  # as if an image were a single example
        intervals["accuracy"] = list(wilson_interval(int(accuracy) * images, images))
    return intervals


def without_intervals(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns an entry of evaluation.json with no intervals in it or in what it contains."""
    return {
        key: {} if key == "intervals" else without_intervals(value) if isinstance(value, dict) else value
        for key, value in entry.items()
    }


class _Sums:
    """Sums over the examples of each image, from which the numbers of any resample of images follow."""

    def __init__(self, image: Ints, images: int, known: Examined) -> None:
        def total(values: npt.NDArray[Any]) -> Floats:
            return np.bincount(image, values, images).astype(np.float64)

        self.means = {
            "accuracy": total(known.correct),
            "mean_confidence": total(known.confidence),
            "nll": total(-known.log_likelihood),
            "brier": total(known.brier),
        }
        self.examples = np.bincount(image, minlength=images)
        self.bins = {}
        for bins in BINS:
            cell = image * bins + equal_width_index(known.confidence, bin_edges(bins))
            weights = (None, known.confidence, known.correct)
            self.bins[bins] = [np.bincount(cell, one, images * bins).reshape(images, bins) for one in weights]

    def numbers(self, weights: Counts) -> dict[str, Floats]:
        """Returns each number `[R]` of R resamples, in which image i occurs `weights[r, i]` times."""
        drawn = weights.astype(np.float64)
        examples = np.maximum(drawn @ self.examples, 1)
        found = {key: drawn @ sums / examples for key, sums in self.means.items()}
        for bins, parts in self.bins.items():
            count, (confidence, correct) = weights @ parts[0], (drawn @ part for part in parts[1:])
            found[f"ece_{bins}"] = calibration_error(count, confidence, correct)
            found[f"oe_{bins}"] = overconfidence_error(count, confidence, correct)
        return found
