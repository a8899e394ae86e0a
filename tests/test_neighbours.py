"""Nearest rows and largest products by clusters, against all pairs."""

import numpy as np
import pytest

from mixup_jax.metrics import compiled_features, neighbours
from mixup_jax.metrics.neighbours import Bank

RNG = np.random.default_rng(5)
CENTRES = RNG.normal(0, 3, (6, 16))
BANKS = {
    "clusters": CENTRES[RNG.integers(0, 6, 600)] + RNG.normal(0, 0.3, (600, 16)),
    "one cloud": RNG.normal(0, 1, (600, 16)),
    "a square": np.pad(RNG.uniform(-3, 3, (600, 2)), ((0, 0), (0, 14))),
    "copies of two rows": CENTRES[RNG.integers(0, 2, 600)],
    "zeros and a row far away": np.concatenate([np.zeros((599, 16)), np.full((1, 16), 50.0)]),
    "fewer rows than neighbours": RNG.normal(0, 1, (7, 16)),
}
PLANE = np.pad(RNG.uniform(-3, 3, (40, 2)), ((0, 0), (0, 14)))  # neighbours across the edges of clusters
QUERIES = np.concatenate([CENTRES + 0.2, RNG.normal(0, 2, (20, 16)), PLANE, np.zeros((1, 16))]).astype(np.float32)


@pytest.mark.parametrize("name", BANKS)
def test_clusters_change_neither_neighbours_nor_products(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "CLUSTER_ROWS", 25)
    monkeypatch.setattr(neighbours, "PRODUCT_ROWS", 64)
    rows = BANKS[name].astype(np.float32)
    bank, k = Bank(rows), min(10, len(rows))
    exact = QUERIES.astype(np.float64), rows.astype(np.float64)
    distances = np.sort(np.linalg.norm(exact[0][:, None] - exact[1], axis=2), axis=1)[:, k - 1]
    scale = np.abs(rows).max() + np.abs(QUERIES).max()
    np.testing.assert_allclose(bank.nearest(QUERIES, k), distances, atol=3e-3 * scale)  # the root of a rounded square
    np.testing.assert_allclose(bank.nearest(QUERIES, k) ** 2, distances**2, atol=1e-5 * scale**2)
    products = np.sort(exact[0] @ exact[1].T, axis=1)[:, -k:]
    found = np.sort(bank.largest_products(QUERIES, k), axis=1)
    np.testing.assert_allclose(found, products, atol=1e-5 * scale**2)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of pairs that are compared, as they are."""
    keep_largest, found = compiled_features.keep_largest, []
    counted = lambda values, kept: found.append(values.size) or keep_largest(values, kept)  # noqa: E731
    monkeypatch.setattr(compiled_features, "keep_largest", counted)
    return found


def test_rows_of_other_clusters_are_not_compared(pairs: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "CLUSTER_ROWS", 25)
    rows = BANKS["clusters"].astype(np.float32)
    Bank(rows).nearest(rows, 10)
    assert len(rows) * 10 <= sum(pairs) < 0.4 * len(rows) ** 2


def test_rows_along_another_ray_are_not_multiplied(pairs: list[int], monkeypatch: pytest.MonkeyPatch):
    # At 40 degrees to a ray of rows from 0.5 to 4 the largest product is 3.06.  With the other ray it is at most 2.57,
    # which the length along the ray shows; its centre, 2.25, and radius, 1.75, would allow 3.2.
    monkeypatch.setattr(neighbours, "CLUSTER_ROWS", 300)
    rays = np.eye(2, dtype=np.float32)
    rows = np.concatenate([np.linspace(0.5, 4, 300, dtype=np.float32)[:, None] * ray for ray in rays])
    angles = np.radians([40, 50])
    queries = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = Bank(rows).largest_products(queries, 3)
    np.testing.assert_allclose(found.max(axis=1), 4 * np.cos(angles[0]), rtol=1e-6)
    assert sum(pairs) == len(queries) * 300
