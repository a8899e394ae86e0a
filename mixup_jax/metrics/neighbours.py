"""The nearest rows of queries, and the largest inner products with them, without comparing every pair.

The rows are put into clusters.  A query is compared with the rows of a cluster only if one of them may be among what is
kept, by a bound from the cluster's centre and its extent.  So the result is that of all pairs.  Features of a trained
network lie near the means of their classes, and few clusters are left; where nothing is near anything, all are.
"""

import numpy as np
import numpy.typing as npt

from mixup_jax.metrics.logits import in_threads, rows_of
from mixup_jax.metrics.softmax import Floats, Ints

Rows = npt.NDArray[np.float32]

PRODUCT_ROWS = 4096
CLUSTER_ROWS, MOST_CLUSTERS, ROUNDS = 1000, 512, 3
ROUNDING = 1e-5  # of a product of float32 rows, relative to their lengths; more than it can be


class Bank:
    """Rows float32 `[M, D]` in clusters of about `CLUSTER_ROWS`, found by a few rounds of k-means that draw nothing."""

    def __init__(self, rows: Rows) -> None:
        """Sorts a copy of the rows, of which there is at least one."""
        count = max(1, min(len(rows) // CLUSTER_ROWS, MOST_CLUSTERS))
        centres = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
        for _ in range(ROUNDS if count > 1 else 0):
            centres = _means(rows, _nearest(rows, centres), centres)
        of_row = _nearest(rows, centres)
        order = of_row.argsort(kind="stable")
        ends = np.searchsorted(of_row[order], np.arange(1, count))
        self.clusters = np.split(rows[order], ends)
        self.centres = centres
        around = [members - centre for members, centre in zip(self.clusters, centres, strict=True)]
        self.radii = np.sqrt([np.square(members).sum(axis=1).max(initial=0.0) for members in around])
        self.half_squares = [np.square(members).sum(axis=1) / 2 for members in self.clusters]
        lengths = np.sqrt(np.square(centres).sum(axis=1, keepdims=True))
        self.directions = np.divide(centres, lengths, out=np.zeros_like(centres), where=lengths > 0)
        self.least, self.most, self.across = np.array(
            [_about(members, axis) for members, axis in zip(self.clusters, self.directions, strict=True)]
        ).T
        self.longest = float(np.sqrt(2 * max(half.max(initial=0.0) for half in self.half_squares)))

    def largest_products(self, queries: Rows, k: int) -> Rows:
        """Returns the k (at most M) largest inner products `[n, k]` of each query `[n, D]`, the least first."""
        # Rows of about one direction may have any length, so the part of a product along a centre is bounded apart.
        squares = np.square(queries).sum(axis=1, keepdims=True)
        along = queries @ self.directions.T
        off = np.sqrt(np.maximum(squares - np.square(along), 0.0) + ROUNDING * squares)
        limits = np.maximum(along * self.least, along * self.most) + off * self.across
        return self._largest(queries, limits + ROUNDING * self.longest * np.sqrt(squares), k)

    def nearest(self, queries: Rows, k: int) -> Floats:
        """Returns the distance `[n]` of each query `[n, D]` to its k-th (at most M-th) nearest row."""
        # |q - x|^2 = |q|^2 - 2 (q x - |x|^2 / 2), so the nearest row has the largest of what is in parentheses.
        squares = np.square(queries).sum(axis=1, keepdims=True)
        from_centres = squares + np.square(self.centres).sum(axis=1) - 2 * (queries @ self.centres.T)
        least = np.maximum(np.sqrt(np.maximum(from_centres, 0.0)) - self.radii, 0.0)
        limits = (squares - np.square(least)) / 2 + ROUNDING * (squares + self.longest**2)
        found = self._largest(queries, limits, k, self.half_squares)[:, 0]
        distance: Floats = np.sqrt(np.maximum(squares[:, 0] - 2.0 * found.astype(np.float64), 0.0))
        return distance

    def _largest(self, queries: Rows, limits: Floats, k: int, less: list[Rows] | None = None) -> Rows:
        """Returns the k largest products, less a number of each row if given; none exceeds `limits` `[n, C]`."""
        from mixup_jax.metrics.compiled_features import keep_largest

        kept = np.full((len(queries), k), -np.inf, np.float32)

        def compare(cluster: int, chosen: Ints) -> None:
            some, largest = queries[chosen], kept[chosen]
            for part in rows_of(len(self.clusters[cluster]), PRODUCT_ROWS):
                products = some @ self.clusters[cluster][part].T
                if less is not None:
                    products -= less[cluster][part]
                keep_largest(products, largest)
            kept[chosen] = largest

        first = limits.argmax(axis=1)  # there the most is found, so that other clusters can be left out
        for cluster in np.unique(first):
            compare(cluster, np.flatnonzero(first == cluster))
        for cluster in range(len(self.clusters)):
            chosen = np.flatnonzero((first != cluster) & (limits[:, cluster] >= kept[:, 0]))
            if len(chosen):
                compare(cluster, chosen)
        return kept


def _about(rows: Rows, axis: Rows) -> tuple[float, float, float]:
    """Returns the least and the largest part of some rows along an axis, and the largest distance from it."""
    if not len(rows):
        return 0.0, 0.0, 0.0
    along = rows @ axis
    squares = np.square(rows - along[:, None] * axis).sum(axis=1)
    return along.min(), along.max(), np.sqrt(squares.max())


def _nearest(rows: Rows, centres: Rows) -> Ints:
    """Returns the nearest centre `[M]` of each row."""
    half = np.square(centres).sum(axis=1) / 2

    def work(part: slice) -> Ints:
        return (rows[part] @ centres.T - half).argmax(axis=1)

    return np.concatenate(in_threads(work, list(rows_of(len(rows), PRODUCT_ROWS))))


def _means(rows: Rows, of_row: Ints, centres: Rows) -> Rows:
    """Returns the mean of the rows of each centre; a centre without rows stays."""
    count, total = np.zeros(len(centres)), np.zeros(centres.shape)
    for part in rows_of(len(rows), PRODUCT_ROWS):
        members = np.eye(len(centres), dtype=np.float32)[of_row[part]]
        count += members.sum(axis=0)
        total += members.T @ rows[part]
    means = np.divide(total, count[:, None], out=centres.astype(np.float64), where=count[:, None] > 0)
    return means.astype(np.float32)
