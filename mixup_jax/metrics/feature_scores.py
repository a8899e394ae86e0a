"""Out-of-distribution (OOD) scores of penultimate features, fitted on those of training examples.

Every `fit_...` takes the `Training` examples of a network and returns a function from features `[n, D]` to scores
`[n]`, higher = more OOD.  The formulae are those of the papers as OpenOOD (arXiv:2306.09301) has them; docs/metrics.md,
"Out-of-distribution scores", says where they differ.  Logits are those of the head, `features @ kernel + bias`.  Sums
are in float64, except for inner products with the whole of the training features, which are in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.features import Training, covariance_of, mean_of, percentile_of, sum_over_blocks, widened
from mixup_jax.metrics.logits import blocks, in_threads, rows_of
from mixup_jax.metrics.neighbours import Bank
from mixup_jax.metrics.softmax import Floats

FeatureScore = Callable[[Floats], Floats]
"""From features float64 `[n, D]` to scores `[n]`; `apply` calls it for a few rows at a time."""

NEIGHBOURS = 50
GUIDES = 100
REACT_PERCENTILE, ASH_PERCENTILE, SCALE_PERCENTILE = 90.0, 90.0, 85.0
CACHED = 3 << 15  # numbers at a time, 768 KiB in float64: they fit the second-level cache; the fastest size measured
COMPARED_ROWS, BANK_ROWS = 2048, 4096


def apply(score: FeatureScore, features: npt.NDArray[np.floating]) -> Floats:
    """Returns the score of each row of features `[N, D]`, a block of rows at a time, float64 `[N]`."""
    out = np.empty(len(features))

    def work(rows: slice) -> None:
        out[rows] = score(widened(features[rows]))

    n, size = features.shape
    in_threads(work, list(rows_of(n, COMPARED_ROWS) if isinstance(score, Compared) else blocks(n, size, CACHED)))
    return out


@dataclass(frozen=True)
class Compared:
    """A feature score of comparisons with all training examples, for which many rows at a time are faster."""

    of_rows: FeatureScore

    def __call__(self, features: Floats) -> Floats:
        """Returns the scores `[n]` of features `[n, D]`."""
        return self.of_rows(features)


def _log_total(logits: Floats) -> Floats:
    top = logits.max(axis=1)
    total: Floats = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return total


def _whitening(covariance: Floats) -> Floats:
    """Returns `[D, R]` of rank R whose product with its transpose is the pseudo-inverse of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    whitening: Floats = vectors[:, kept] / np.sqrt(values[kept])
    return whitening


class _Classes:
    """The means `[C, D]` of the classes that have an example, their shares `[C]`, and the covariance within them."""

    def __init__(self, training: Training) -> None:
        assert training.labels is not None
        _, of_row, count = np.unique(training.labels, return_inverse=True, return_counts=True)

        def sums(rows: slice, features: Floats) -> Floats:
            of_class: Floats = (np.arange(len(count))[:, None] == of_row[rows]) @ features
            return of_class

        self.means = sum_over_blocks(training, sums) / count[:, None]
        self.shares = count / len(of_row)
        self.covariance = covariance_of(training, self.means, of_row)


def fit_mahalanobis(training: Training) -> FeatureScore:
    """Returns the squared Mahalanobis distance to the nearest class mean, with the covariance within classes.

    Source: Lee et al. (2018, arXiv:1807.03888), of the last layer alone.  Classes without an example are left out.
    """
    classes = _Classes(training)
    return _distance_to_classes(classes, _whitening(classes.covariance))


def _distance_to_classes(classes: _Classes, whitening: Floats) -> FeatureScore:
    origin = classes.means.mean(axis=0)
    white = _product_with(whitening)
    centres = white(classes.means - origin)
    lengths = _squared_length(centres)

    def score(features: Floats) -> Floats:
        found = white(features - origin)
        nearest: Floats = _squared_length(found) + (lengths - 2 * (found @ centres.T)).min(axis=1)
        return nearest

    return score


def _product_with(whitening: Floats) -> Callable[[Floats], Floats]:
    """Returns the function from rows to the products with a whitening `[D, R]`, but for a rotation of their space.

    Of full rank it is a triangle, whose product takes half the time.
    """
    if len(whitening) > whitening.shape[1]:
        return lambda rows: rows @ whitening
    from scipy.linalg.blas import dtrmm

    triangle = np.asfortranarray(np.linalg.qr(whitening.T, mode="r"))

    def product(rows: Floats) -> Floats:
        found: Floats = dtrmm(1.0, triangle, rows.T).T
        return found

    return product


def fit_relative_mahalanobis(training: Training) -> FeatureScore:
    """Returns `fit_mahalanobis` less the distance to the mean of all, with the covariance of all.

    Source: Ren et al. (2021, arXiv:2106.09022).
    """
    classes = _Classes(training)
    mean = classes.shares @ classes.means
    offsets = classes.means - mean
    between = offsets.T * np.sqrt(classes.shares)
    inside = _whitening(classes.covariance)
    white = inside.T @ between
    if not np.allclose(between, classes.covariance @ (inside @ white), rtol=0, atol=1e-9 * np.abs(between).max()):
        # Classes differ where no class varies, as when examples are fewer than features.
        whole = _whitening(classes.covariance + between @ between.T)
        of_classes = _distance_to_classes(classes, inside)
        return lambda features: of_classes(features) - _squared_length((features - mean) @ whole)

    # Both distances differ by one of the rank of the class means alone (Woodbury):
    # (S + B B')^-1 = S^-1 - S^-1 B (1 + B' S^-1 B)^-1 B' S^-1.
    values, vectors = np.linalg.eigh(white.T @ white)
    directions = inside @ (white @ (vectors / np.sqrt(1 + values)))
    centres = inside @ (inside.T @ offsets.T)
    lengths = np.einsum("cd,dc->c", offsets, centres)

    def score(features: Floats) -> Floats:
        moved = features - mean
        relative: Floats = _squared_length(moved @ directions) + (lengths - 2 * (moved @ centres)).min(axis=1)
        return relative

    return score


def _squared_length(rows: Floats) -> Floats:
    squares: Floats = np.vecdot(rows, rows)
    return squares


def _unit(features: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Returns the rows divided by their lengths; a row of zeros stays."""
    lengths = np.sqrt(np.square(features).sum(axis=1, keepdims=True))
    return np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)


def fit_knn(training: Training) -> FeatureScore:
    """Returns the distance to the 50th nearest training example, of features divided by their length.

    Source: Sun et al. (2022, arXiv:2204.06507).  Of fewer than 50 training examples it is the furthest.
    """
    unit = _unit(training.features.astype(np.float32))
    mean = unit.mean(axis=0)
    k = min(NEIGHBOURS, len(unit))
    bank = Bank(unit - mean)  # distances do not depend on the origin; from the mean the rounding is least
    return Compared(lambda features: bank.nearest((_unit(features) - mean).astype(np.float32), k))


def fit_nnguide(training: Training) -> FeatureScore:
    """Returns minus the negative energy times the mean of the 100 largest guidances of training examples.

    The guidance of an example is the cosine of both features times the training example's negative energy.
    Source: Park et al. (2023, arXiv:2309.14888), with all training examples (alpha = 1).
    """
    k = min(GUIDES, len(training.features))
    energy = np.concatenate(
        [
            _log_total(training.logits(widened(training.features[rows])))
            for rows in rows_of(len(training.features), BANK_ROWS)
        ]
    )
    bank = Bank((_unit(training.features.astype(np.float32)) * energy[:, None]).astype(np.float32))

    def score(features: Floats) -> Floats:
        guidance = bank.largest_products(_unit(features).astype(np.float32), k).mean(axis=1, dtype=np.float64)
        return -guidance * _log_total(training.logits(features))

    return Compared(score)


def principal_dimension(size: int) -> int:
    """Returns the dimension of the principal space of features of a size, as in the code of ViM's authors.

    1000 from 2048 features on, 512 from 768 on; for fewer, which they do not have, half, as OpenOOD's 256 of 512.
    """
    return 1000 if size >= 2048 else 512 if size >= 768 else size // 2


def _outside(training: Training) -> Callable[[Floats], Floats]:
    """Returns the length of features outside the principal space, with the origin where all logits are equal."""
    assert training.kernel is not None
    bias = np.zeros(training.kernel.shape[1]) if training.bias is None else training.bias.astype(np.float64)
    origin = -np.linalg.pinv(training.kernel.astype(np.float64).T) @ bias
    values, vectors = np.linalg.eigh(covariance_of(training, origin[None]))  # eigenvalues ascend
    size = len(origin) - principal_dimension(len(origin))
    if values[:size].sum() <= len(origin) * np.finfo(np.float64).eps * values.sum():
        raise InputError(f"the training features lie in {len(origin) - size} dimensions; expected them to fill more")
    rest = vectors[:, :size]

    def length(features: Floats) -> Floats:
        found: Floats = np.sqrt(_squared_length((features - origin) @ rest))
        return found

    return length


def fit_residual(training: Training) -> FeatureScore:
    """Returns the length of the features outside the principal space of the training features (Wang et al. 2022)."""
    return _outside(training)


def fit_vim(training: Training) -> FeatureScore:
    """Returns the virtual logit less logsumexp of the logits: the residual, scaled to the mean largest logit.

    Source: Wang et al. (2022, arXiv:2203.10807).
    """
    length = _outside(training)
    largest, lengths = sum_over_blocks(
        training, lambda _, features: np.array([training.logits(features).max(axis=1).sum(), length(features).sum()])
    )
    scale = largest / lengths
    return lambda features: scale * length(features) - _log_total(training.logits(features))


def fit_react(training: Training) -> FeatureScore:
    """Returns the energy after features are cut off at the 90th percentile of all training features.

    Source: Sun et al. (2021, arXiv:2111.12797).
    """
    from mixup_jax.metrics.compiled_features import cut_off

    threshold = percentile_of(training.features, REACT_PERCENTILE)

    def score(features: Floats) -> Floats:
        cut = np.empty_like(features, order="C")
        cut_off(np.ascontiguousarray(features).reshape(-1), threshold, cut.reshape(-1))
        return -_log_total(training.logits(cut))

    return score


def _largest_features(rounded: npt.NDArray[np.float32], percentile: float) -> npt.NDArray[np.float32]:
    """Returns each row without its lowest `percentile` %, float32 `[n, k]`, the least of the others first.

    In float32 this takes a third of the time of float64.
    """
    size = rounded.shape[1]
    k = max(size - round(size * percentile / 100), 1)
    return np.partition(rounded, size - k, axis=1)[:, size - k :]


def fit_ash(training: Training) -> FeatureScore:
    """Returns the energy after the largest tenth of the features share the sum of all, and the others are 0 (ASH-B).

    Of equal ones the first are kept.  Source: Djurisic et al. (2023, arXiv:2209.09858).
    """

    def score(features: Floats) -> Floats:
        rounded = features.astype(np.float32)
        largest = _largest_features(rounded, ASH_PERCENTILE)
        k, least = largest.shape[1], largest[:, :1]
        kept = rounded >= least
        tied = np.flatnonzero(np.count_nonzero(kept, axis=1) > k)
        if len(tied):
            above, equal = (compare(rounded[tied], least[tied]) for compare in (np.greater, np.equal))
            room = k - np.count_nonzero(above, axis=1, keepdims=True)
            kept[tied] = above | (equal & (equal.cumsum(axis=1) <= room))
        return -_log_total(training.logits(kept, features.sum(axis=1) / k))

    return score


def fit_scale(training: Training) -> FeatureScore:
    """Returns the energy after features are scaled by exp(sum of all / sum of the largest 15 %).

    Source: Xu et al. (2024, arXiv:2310.00227).
    """

    def score(features: Floats) -> Floats:
        largest = _largest_features(features.astype(np.float32), SCALE_PERCENTILE).sum(axis=1, dtype=np.float64)
        ratio = np.divide(features.sum(axis=1), largest, out=np.ones_like(largest), where=largest > 0)
        return -_log_total(training.logits(features, np.exp(ratio)))

    return score


def fit_fdbd(training: Training) -> FeatureScore:
    """Returns minus the sum of distances to the other classes' boundaries, over the distance to the training mean.

    Source: Liu & Qin (2024, arXiv:2312.11536).  Classes of equal weights have no boundary and are left out.
    """
    assert training.kernel is not None
    mean, weights = mean_of(training), training.kernel.T.astype(np.float64)
    lengths = np.square(weights).sum(axis=1)
    apart = np.sqrt(np.maximum(lengths[:, None] + lengths - 2 * (weights @ weights.T), 0.0))
    np.fill_diagonal(apart, 0.0)
    inverse = np.divide(1.0, apart, out=np.zeros_like(apart), where=apart > 0)

    def score(features: Floats) -> Floats:
        logits = training.logits(features)
        gaps = logits.max(axis=1, keepdims=True) - logits
        sums = (gaps * inverse[logits.argmax(axis=1)]).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return -np.nan_to_num(sums / np.sqrt(_squared_length(features - mean)), nan=0.0, posinf=np.inf)

    return score


def fit_kl_matching(training: Training) -> FeatureScore:
    """Returns the least KL divergence of the probabilities from the mean probabilities of a predicted class.

    Source: Hendrycks et al. (2022, arXiv:1911.11132).  Classes that no training example is predicted as are left out.
    """
    assert training.kernel is not None
    sums = np.zeros((training.kernel.shape[1],) * 2)
    count = np.zeros(len(sums))
    for rows in rows_of(len(training.features), BANK_ROWS):
        logits = training.logits(widened(training.features[rows]))
        of_row = np.eye(len(sums))[logits.argmax(axis=1)]
        sums += of_row.T @ np.exp(logits - _log_total(logits)[:, None])
        count += of_row.sum(axis=0)
    means = sums[count > 0] / count[count > 0, None]
    log_means = np.log(np.maximum(means, np.finfo(np.float64).tiny))

    def score(features: Floats) -> Floats:
        logits = training.logits(features)
        log_probabilities = logits - _log_total(logits)[:, None]
        probabilities = np.exp(log_probabilities)
        entropy = -(probabilities * log_probabilities).sum(axis=1)
        least: Floats = (probabilities @ -log_means.T).min(axis=1) - entropy
        return least

    return score
