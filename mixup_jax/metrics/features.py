"""Penultimate features of training examples, and what scores are fitted on: their sums, covariance and percentiles.

Features may be memory-mapped and are read a block of rows at a time.  Sums are in float64 and made in a fixed order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import blocks, check_labels, in_threads, rows_of
from mixup_jax.metrics.softmax import Floats, Ints

LARGEST_FEATURE = 1e15  # the squares of larger ones, summed, would leave float32
SUM_ROWS = 2048
PARTS = 4  # of the training examples, whose sums are made apart; a number of the machine would decide their order


@dataclass(frozen=True, eq=False)
class Training:
    """What feature scores are fitted on.

    Attributes:
      features: floating point `[M, D]`, the penultimate features of training examples; may be memory-mapped.
      labels: integer `[M]` in [0, K), or None.
      kernel: floating point `[D, K]`, the weights of the last layer, or None.
      bias: floating point `[K]`; zeros if there is a kernel alone.
    """

    features: npt.NDArray[np.floating]
    labels: npt.NDArray[np.integer] | None = None
    kernel: npt.NDArray[np.floating] | None = None
    bias: npt.NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        size = check_features("train_features", self.features)
        if self.kernel is not None and (self.kernel.ndim != 2 or len(self.kernel) != size):
            raise InputError(f"head_kernel has shape {list(self.kernel.shape)}; expected [{size}, K]")
        if self.bias is not None and (self.kernel is None or self.bias.shape != self.kernel.shape[1:]):
            raise InputError(f"head_bias has shape {list(self.bias.shape)}; expected [K], as head_kernel [D, K] has")
        for name, array in (("head_kernel", self.kernel), ("head_bias", self.bias)):
            if array is not None and not (np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all()):
                raise InputError(f"{name} has dtype {array.dtype}, or NaN or infinity in it; expected finite floats")
        if self.labels is not None:
            classes = int(self.labels.max(initial=0)) + 1 if self.kernel is None else self.kernel.shape[1]
            checked = check_labels(np.asarray(self.labels), len(self.features), classes)
            if checked.min() < 0:
                raise InputError("train_labels contain -1 (no label); expected a class for every training example")

    def logits(self, features: npt.NDArray[Any], factors: Floats | None = None) -> Floats:
        """Returns the logits of the head, float64 `[n, K]`, after row i of the features is multiplied by factors[i]."""
        found: Floats = features @ self._wide_kernel
        if factors is not None:
            found *= factors[:, None]
        return found if self.bias is None else found + self.bias

    @cached_property
    def _wide_kernel(self) -> Floats:
        assert self.kernel is not None
        return self.kernel.astype(np.float64)


def check_features(name: str, features: npt.NDArray[np.floating]) -> int:
    """Returns D of features `[N, D]`; raises InputError for another shape or dtype, NaN or infinity."""
    if features.ndim != 2 or 0 in features.shape or not np.issubdtype(features.dtype, np.floating):
        raise InputError(
            f"{name} have shape {list(features.shape)} and dtype {features.dtype}; expected floating point [N, D]"
        )
    for rows in blocks(*features.shape):
        if not float(np.abs(features[rows]).max()) <= LARGEST_FEATURE:
            raise InputError(
                f"{name} contain NaN or infinity, or a number beyond {LARGEST_FEATURE:g}; expected finite numbers "
                "(float16 ends at 65504)"
            )
    return int(features.shape[1])


def widened(features: npt.NDArray[np.floating]) -> Floats:
    """Returns features, which are finite, in float64."""
    if features.dtype != np.float16:
        return features.astype(np.float64)
    from mixup_jax.metrics.compiled_features import widen

    wide = np.empty(features.shape)
    widen(np.ascontiguousarray(features).view(np.uint16).ravel(), wide.reshape(-1))
    return wide


def sum_over_blocks(training: Training, of_block: Callable[[slice, Floats], Floats]) -> Floats:
    """Returns the sum of what `of_block` makes of the rows of each block and their features, in a fixed order."""

    def of_part(part: slice) -> Floats:
        total = np.zeros(())
        for some in rows_of(part.stop - part.start, SUM_ROWS):
            rows = slice(part.start + some.start, part.start + some.stop)
            total = total + of_block(rows, widened(training.features[rows]))
        return total

    n = len(training.features)
    total: Floats = np.sum(in_threads(of_part, list(rows_of(n, -(-n // PARTS)))), axis=0)
    return total


def mean_of(training: Training) -> Floats:
    """Returns the mean `[D]` of the training features."""
    return sum_over_blocks(training, lambda _, features: features.sum(axis=0)) / len(training.features)


def covariance_of(training: Training, centres: Floats, of_row: Ints | None = None) -> Floats:
    """Returns the mean outer product `[D, D]` of the training features less centres `[C, D]`, of row i `of_row[i]`."""

    def products(rows: slice, features: Floats) -> Floats:
        features -= centres[0 if of_row is None else of_row[rows]]
        outer: Floats = features.T @ features
        return outer

    return sum_over_blocks(training, products) / len(training.features)


def percentile_of(features: npt.NDArray[np.floating], percentile: float) -> float:
    """Returns a percentile of all features; those of float16 are counted by their values instead of sorted."""
    if features.dtype != np.float16:
        return float(np.percentile(features.astype(np.float32), percentile))

    from mixup_jax.metrics.compiled_features import count_halves

    def counted(rows: slice) -> Ints:
        found = np.zeros(1 << 16, np.int64)
        count_halves(np.ascontiguousarray(features[rows]).view(np.uint16).ravel(), found)
        return found

    count = np.sum(in_threads(counted, list(rows_of(len(features), -(-len(features) // PARTS)))), axis=0)
    ascending = np.r_[0xFFFF:0x7FFF:-1, 0:0x8000].astype(np.uint16)  # negative float16 are ordered against their bits
    place = (features.size - 1) * percentile / 100
    whole = int(place)
    ranks = [whole, min(whole + 1, features.size - 1)]
    found = ascending[np.searchsorted(count[ascending].cumsum(), ranks, side="right")]
    low, high = found.view(np.float16).astype(np.float64)
    return float(low + (place - whole) * (high - low))
