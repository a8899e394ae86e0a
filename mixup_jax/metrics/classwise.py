"""Calibration of all class probabilities, class by class, instead of the largest one only.

Every example then counts once for each class k, with confidence p_k and the event "the label is k".
Nixon et al. (2019, arXiv:1904.01685): SCE, ACE and TACE.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics.binning import Bins, bin_edges, equal_width_index
from mixup_jax.metrics.calibration import NORMS, bin_equal_mass, calibration_error, ece
from mixup_jax.metrics.logits import blocks, check_logits, in_threads, rows_of
from mixup_jax.metrics.resampling import Counts, Interval, interval_around, resample_counts
from mixup_jax.metrics.softmax import (
    Bools,
    Floats,
    Ints,
    bits_of,
    check_all_labelled,
    plain,
    plain_rows,
    shifted_blocks,
    table_of_logits,
)
from mixup_jax.metrics.temperature import check_temperature

# Parts of the examples whose sums are made apart, and the most cells of bins in all of them (48 MiB).  The number of
# parts decides the order of additions, so it must not depend on the machine.
_PARTS, _CELLS = 8, 1 << 21
_KEPT = 1 << 20, 1 << 23  # probabilities held at a time: 8 MiB for a small table, at most 64 MiB
_SHARE = 16  # of all probabilities are held at a time: an eighth of the memory of float32 logits
_CLASSES = 8  # that a thread takes at a time


def bin_classes(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    n_bins: int = 15,
    *,
    equal_mass: bool = False,
    threshold: float = 0.0,
    temperature: float = 1.0,
) -> tuple[Bins, ...]:
    """Returns the `Bins` of each class k: confidence p_k, "correct" where the label is k.

    With `equal_mass`, each class has bins of equal mass (`bin_equal_mass`) instead of equally wide ones.  Probabilities
    up to `threshold`, in [0, 1), are left out; 0 keeps all, including zeros.
    """
    checked, edges = _checked(logits, labels, n_bins, threshold, temperature)
    if not equal_mass:
        sums = _equal_width(logits, checked, edges, threshold, temperature)
        return tuple(Bins(edges, *of_class) for of_class in zip(*sums, strict=True))
    binned = [Bins.empty(1)] * np.shape(logits)[1]
    for k, bins in _equal_mass(np.asarray(logits), checked, n_bins, threshold, temperature):
        binned[k] = bins
    return tuple(binned)


def _checked(
    logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int, threshold: float, temperature: float
) -> tuple[Ints, Floats]:
    """Returns the labels and the edges of equally wide bins, after checking what `bin_classes` takes."""
    if not 0.0 <= threshold < 1.0:
        raise InputError(f"threshold is {threshold}; expected a probability of at least 0 and below 1")
    check_temperature(temperature)
    edges = bin_edges(n_bins)
    return check_all_labelled(logits, labels), edges


def _equal_mass(
    logits: npt.NDArray[np.floating], labels: Ints, n_bins: int, threshold: float, temperature: float
) -> Iterator[tuple[int, Bins]]:
    """Yields each class of which a probability is left, and its bins of equal mass."""
    for group in _kept_by_class(logits, labels, threshold, temperature):

        def work(places: slice, group: list[tuple[int, list[Floats]]] = group) -> list[tuple[int, Bins]]:
            joined = ((k, np.concatenate(parts)) for k, parts in group[places])
            return [(k, bin_equal_mass(np.abs(kept), np.signbit(kept), n_bins)) for k, kept in joined if len(kept)]

        for part in in_threads(work, list(rows_of(len(group), _CLASSES))):
            yield from part


def _kept_by_class(
    logits: npt.NDArray[np.floating], labels: Ints, threshold: float, temperature: float
) -> Iterator[list[tuple[int, list[Floats]]]]:
    """Yields some neighbouring classes, each with its probabilities above the threshold, negative for the label.

    They are in the order of the examples, in parts to be joined.  The logits are read once, and again for each list.
    """
    from mixup_jax.metrics.compiled_classes import count_likely, write_above

    array = table_of_logits(logits)
    n, classes = array.shape
    lowest = threshold if threshold > 0.0 else -1.0
    of_rows = np.empty((3, n))  # the largest logit, the sum of exponentials, and what may be above the threshold
    parts = list(rows_of(n, -(-n // _PARTS)))
    likely = np.zeros((len(parts), classes), np.int64)

    def rows_in(part: slice) -> Iterator[tuple[slice, npt.NDArray[np.floating]]]:
        for some in blocks(part.stop - part.start, classes):
            rows = slice(part.start + some.start, part.start + some.stop)
            yield rows, plain_rows(array[rows])

    def count(number: slice) -> None:
        for rows, block in rows_in(parts[number.start]):
            if not count_likely(block, bits_of(block), temperature, lowest, *of_rows[:, rows], likely[number.start]):
                check_logits(array)

    numbers = list(rows_of(len(parts), 1))
    in_threads(count, numbers)
    most = min(max(_KEPT[0], n * classes // _SHARE), _KEPT[1])
    for first, last in _together(likely.sum(axis=0), most):
        # For each class one range for each part.
        size = likely[:, first:last].T.ravel()
        start = (size.cumsum() - size).reshape(last - first, len(parts))
        end, kept = start.T.copy(), np.empty(size.sum())

        def write(number: slice, first: int = first, last: int = last, end: Ints = end, kept: Floats = kept) -> None:
            for rows, block in rows_in(parts[number.start]):
                given = plain(labels[rows], np.int64), first, last, temperature, lowest
                write_above(block, *given, *of_rows[:, rows], end[number.start], kept)

        in_threads(write, numbers)
        ranges = (zip(of_class, end[:, k], strict=True) for k, of_class in enumerate(start))
        yield [(k, [kept[a:b] for a, b in of_class]) for k, of_class in enumerate(ranges, first)]


def _together(counts: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Yields the ranges of classes that have at most so many probabilities together, or a single class."""
    first, size = 0, 0
    for k, count in enumerate(counts):
        if size and size + count > most:
            yield first, k
            first, size = k, 0
        size += int(count)
    yield first, len(counts)


def _equal_width(
    logits: npt.ArrayLike, labels: Ints, edges: Floats, threshold: float, temperature: float
) -> tuple[Ints, Floats, Floats]:
    """Returns count, sum of confidences and of correct predictions of equally wide bins, `[K, M]` each."""
    from mixup_jax.metrics.compiled_classes import add_to_bins_of_classes

    array = table_of_logits(logits)
    n, classes = array.shape

    def sums_of(rows: slice) -> Floats:
        sums = np.zeros((3, classes, len(edges) - 1))
        for part in blocks(rows.stop - rows.start, classes):
            of_part = slice(rows.start + part.start, rows.start + part.stop)
            block, places = plain_rows(array[of_part]), plain(labels[of_part], np.int64)
            least = threshold if threshold > 0.0 else -1.0
            if not add_to_bins_of_classes(block, bits_of(block), places, temperature, least, edges[1], *sums):
                check_logits(array)
        return sums

    parts_wanted = min(_PARTS, max(1, _CELLS // (classes * (len(edges) - 1))))
    parts = in_threads(sums_of, list(rows_of(n, -(-n // parts_wanted))))
    count, confidence_sum, correct_sum = np.sum(parts, axis=0)
    return count.astype(np.int64), confidence_sum, correct_sum


def class_cells(logits: npt.ArrayLike, labels: Ints, edges: Floats) -> Iterator[tuple[Floats, Bools, Ints]]:
    """Yields for each block of examples, `[K, rows]` each: probability, "the label is k", and k * M + bin."""
    for rows, probability in shifted_blocks(logits):
        np.exp(probability, out=probability)
        probability /= probability.sum(axis=0)
        classes = np.arange(len(probability))[:, None]
        cells = equal_width_index(probability, edges) + (len(edges) - 1) * classes
        yield probability, classes == labels[rows], cells


def classwise_ece(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    n_bins: int = 15,
    *,
    norm: str = "l1",
    equal_mass: bool = False,
    threshold: float = 0.0,
    temperature: float = 1.0,
) -> float:
    """Returns the calibration error of all K probabilities, averaged over the classes, in [0, 1].

    `1/K sum_k sum_m n_km/n_k |acc_km - conf_km|`.  Nixon et al. (2019) call it the static calibration
    error (SCE) with equally wide bins, and ACE with bins of equal mass.  Most of the K probabilities
    are near 0 and trivially well calibrated, so the value falls as K grows: compare it only at the
    same K.

    With norm "l2" it is the root of the mean over classes of the squared "l2" error (the marginal calibration error of
    Kumar et al., 2019), with "max" the largest gap of any bin of any class.  The other arguments are those of
    `bin_classes`; a class of which no probability is left adds 0.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    checked, edges = _checked(logits, labels, n_bins, threshold, temperature)
    errors = np.zeros(np.shape(logits)[1])
    # Without an object for each class: there may be as many classes as words.
    if equal_mass:
        for k, bins in _equal_mass(np.asarray(logits), checked, n_bins, threshold, temperature):
            errors[k] = ece(bins, norm)
    else:
        count, confidence, correct = _equal_width(logits, checked, edges, threshold, temperature)
        filled = count.any(axis=1)
        errors[filled] = calibration_error(count[filled], confidence[filled], correct[filled], norm)
    return _joint_error(errors, norm)


def classwise_ece_of_bins(binned: Sequence[Bins], norm: str = "l1") -> float:
    """Returns `classwise_ece` from the bins of each class, for example merged over parts of a data set."""
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if not binned:
        raise InputError("binned holds no classes; expected the bins of each class")
    return _joint_error(np.array([ece(bins, norm) if bins.n else 0.0 for bins in binned]), norm)


def _joint_error(errors: Floats, norm: str) -> float:
    if norm == "max":
        return float(errors.max())
    return float(errors.mean() if norm == "l1" else np.sqrt(np.square(errors).mean()))


def tace(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    n_bins: int = 15,
    *,
    threshold: float = 1e-3,
    temperature: float = 1.0,
) -> float:
    """Returns the thresholded adaptive calibration error (TACE; Nixon et al., 2019), in [0, 1].

    `classwise_ece` over bins of equal mass of the probabilities above the threshold.
    """
    return classwise_ece(logits, labels, n_bins, equal_mass=True, threshold=threshold, temperature=temperature)


def bootstrap_classwise_ece(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    n_bins: int = 15,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Returns the bootstrap interval of `classwise_ece(logits, labels, n_bins)`; see `bootstrap_intervals`.

    The time grows with `N K M resamples`: about a second for 10,000 examples of 10 classes.
    """
    sums = _ClassSums(logits, labels, n_bins)
    measured = sums.classwise_ece(np.ones((1, sums.n), np.int64))
    replicates = np.concatenate([sums.classwise_ece(counts) for counts in resample_counts(sums.n, resamples, seed)])
    return interval_around(float(measured[0]), replicates, level, 0.0, 1.0)


class _ClassSums:
    """For each class: the examples ordered by bin, their residuals p_k - 1[y = k], and the start of each bin."""

    def __init__(self, logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int) -> None:
        blocks = list(class_cells(logits, check_all_labelled(logits, labels), bin_edges(n_bins)))
        residuals = np.concatenate([probability - outcome for probability, outcome, _ in blocks], axis=1)
        cells = np.concatenate([cell for *_, cell in blocks], axis=1)
        self.n = residuals.shape[1]
        self.classes = []
        for residual, cell in zip(residuals, cells, strict=True):
            order = np.argsort(cell, kind="stable")
            starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
            self.classes.append((order, residual[order], starts))

    def classwise_ece(self, counts: Counts) -> Floats:
        """Returns the class-wise ECE `[R]` of R resamples, in which example i occurs `counts[r, i]` times."""
        total = np.zeros(len(counts))
        for order, residual, starts in self.classes:
            total += np.abs(np.add.reduceat(counts[:, order] * residual, starts, axis=1)).sum(axis=1)
        return total / (self.n * len(self.classes))
