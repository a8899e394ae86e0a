"""Smooth ECE: calibration error without bins (Błasiok & Nakkiran, ICLR 2024, arXiv:2309.12236)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import check_confidences
from mixup_jax.metrics.logits import in_threads, rows_of
from mixup_jax.metrics.softmax import Bools, Floats

GRID = 4096
"""The number of intervals of the grid to which residuals are assigned."""
_TOLERANCE = 1e-9
_MOST_STEPS = 60  # about 8 suffice
_BLOCK = 1 << 16  # examples assigned to the grid at a time
_ROWS = 16  # grids smoothed at a time: a few megabytes


@dataclass(frozen=True, eq=False)
class Residuals:
    """The sums from which smooth ECE is computed; those of parts of a data set can be merged.

    Attributes:
      n: examples.
      grid: float64 `[GRID + 1]`, the sum of correct - confidence near each point of a grid from 0 to 1.
    """

    n: int
    grid: Floats

    def merge(self, other: Residuals) -> Residuals:
        """Returns the residuals of both sets of examples together; associative up to rounding."""
        return Residuals(self.n + other.n, self.grid + other.grid)

    @property
    def smooth_ece(self) -> float:
        """Returns the smooth ECE; see the function of this name."""
        if self.n == 0:
            raise InputError("confidence holds no examples; expected at least one")
        return float(smooth_ece_of_grid(self.grid[None] / self.n)[0])


def residuals(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> Residuals:
    """Returns the `Residuals` of examples with these confidences; N = 0 gives the neutral element of `merge`."""
    confidences, outcomes = check_confidences(confidence, correct)
    parts = in_threads(lambda rows: on_grid(confidences[rows], outcomes[rows]), list(rows_of(len(confidences), _BLOCK)))
    return Residuals(len(confidences), np.sum(parts, axis=0) if parts else np.zeros(GRID + 1))


def smooth_ece(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Returns the smooth expected calibration error, in [0, 1].

    `smECE_s = integral_0^1 |1/n sum_i (correct_i - confidence_i) K_s(t, confidence_i)| dt`, with K_s the
    Gaussian of standard deviation s reflected at 0 and 1, falls as s grows; the result is its value at
    the one s with smECE_s = s (definition 5 of the source).  It needs no number of bins, and it is
    continuous: a small change of a confidence changes the result by little.

    Residuals are shared between the two nearest of 4,097 grid points and smoothed by a cosine transform.
    Sharing acts as a further smoothing of variance at most h^2 / 4, h = 1/4096, which changes smECE_s by at
    most `0.97 mean|residual| h^2 / (8 s^2)`: below 4e-5 for results from 0.01 upwards, and below h for all.
    """
    return residuals(confidence, correct).smooth_ece


def on_grid(confidence: Floats, correct: Bools) -> Floats:
    """Returns the sum of residuals, correct - confidence, at each grid point: float64 `[GRID + 1]`."""
    left, share, residual = grid_shares(confidence, correct)
    passed_on = share * residual
    grid = np.zeros(GRID + 1)
    grid[:-1] = np.bincount(left, residual - passed_on, minlength=GRID)
    grid[1:] += np.bincount(left, passed_on, minlength=GRID)
    return grid


def grid_shares(confidence: Floats, correct: Bools) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Returns, `[N]` each, the grid point to the left, the share that goes to the right one, and the residual."""
    place = confidence * GRID
    left = np.minimum(place.astype(np.int64), GRID - 1)
    return left, place - left, correct - confidence


def smooth_ece_of_grid(grids: Floats) -> Floats:
    """Returns the smooth ECE, `[R]`, of residuals (divided by the number of examples) on grids `[R, GRID + 1]`."""
    return np.concatenate([_at_fixed_point(grids[row : row + _ROWS]) for row in range(0, len(grids), _ROWS)])


def _at_fixed_point(grids: Floats) -> Floats:
    # Reflection at both ends makes the residuals even with period 2, so a Fourier transform smooths them exactly.
    # A point at an end is its own mirror image and counts twice.
    mirrored = np.concatenate([grids, grids[:, -2:0:-1]], axis=1)
    mirrored[:, [0, GRID]] *= 2.0
    spectrum = np.fft.rfft(mirrored).real
    squares = np.square(np.pi * np.arange(GRID + 1)) / 2
    # smECE_s - s decreases from s = 0 (no smoothing) to s = 1.  Its zero is found by false position with the
    # Illinois rule, which needs a third of the steps of bisection.
    low, high = np.zeros(len(grids)), np.ones(len(grids))
    at_low, at_high = np.abs(grids).sum(axis=1), np.abs(grids.sum(axis=1)) - 1.0
    side = np.zeros(len(grids))
    for _ in range(_MOST_STEPS):
        width = np.clip(low + (high - low) * at_low / (at_low - at_high), low, high)
        error = _integral_of_smoothed(spectrum * np.exp(-np.square(width)[:, None] * squares))
        excess = error - width
        # The fixed point lies between the width and the error at it.
        if np.abs(excess).max() < _TOLERANCE:
            break
        above = excess > 0
        at_low = np.where(above, excess, np.where(side < 0, at_low / 2, at_low))
        at_high = np.where(above, np.where(side > 0, at_high / 2, at_high), excess)
        low, high = np.where(above, width, low), np.where(above, high, width)
        side = np.where(above, 1.0, -1.0)
    return error


def _integral_of_smoothed(spectrum: Floats) -> Floats:
    smoothed = np.abs(np.fft.irfft(spectrum, 2 * GRID)[:, : GRID + 1])
    # The trapezoidal rule, h (sum - ends / 2), times the factor GRID = 1 / h of the inverse transform.
    integral: Floats = smoothed.sum(axis=1) - (smoothed[:, 0] + smoothed[:, -1]) / 2
    return integral
