"""Times the out-of-distribution scores of features beside OpenOOD's formulae in NumPy, on the same features.

    python benchmarks/feature_scores.py --train=50000 --queries=50000 --plain=2000 --write=docs/benchmarks-metrics.md

OpenOOD's formulae are computed as its files do, in batches of 200, for `--plain` queries; their time is multiplied to
that of all queries, since it is proportional to them.  Fitting is timed apart.  They run first, with memory as Python
gets it; ours then keep freed memory, as `evaluate` does.  "least" is the time of the products of matrices that a score
cannot do without, at the rates of float32 and float64 measured in this run, and of reading the features once for the
fit and once for the scores, at the bandwidth of a copy.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from document import write_between

from mixup_jax.libraries import keep_freed_memory
from mixup_jax.metrics import table
from mixup_jax.metrics.feature_scores import apply, principal_dimension
from mixup_jax.metrics.features import Training

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from test_feature_scores import by_openood


def seconds(work):
    """Returns the seconds that work takes, the least of three where it takes less than one, and its result."""
    times = []
    while not times or (len(times) < 3 and times[0] < 1):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def in_batches(confidence, queries, size=200):
    batches = (queries[start : start + size].astype(np.float64) for start in range(0, len(queries), size))
    return np.concatenate([confidence(batch) for batch in batches])


def rates():
    """Returns products of float32 and of float64 numbers (2 operations each) and bytes copied, a second."""
    rng, found = np.random.default_rng(1), []
    for kind in (np.float32, np.float64):
        a, b = rng.normal(size=(1024, 512)).astype(kind), rng.normal(size=(4096, 512)).astype(kind)
        found.append(a.shape[0] * b.size / min(seconds(lambda a=a, b=b: a @ b.T)[0] for _ in range(20)))
    source = np.ones(1 << 26, np.uint8)
    target = source.copy()
    found.append(2 * source.size / min(seconds(lambda: np.copyto(target, source))[0] for _ in range(10)))
    return found


def products_of(key, train, queries, size, classes):
    """Returns the products of a score in float32 and in float64; those with a transpose or a triangle count half."""
    head, covariance, rest = queries * size * classes, train * size**2 / 2, size - principal_dimension(size)
    of_means = train * size * classes + covariance + head
    return {
        "knn": (queries * train * (size + 1), 0),
        "nnguide": (queries * train * size, head + train * size * classes),
        "mahalanobis": (0, of_means + queries * size**2 / 2),
        "relative_mahalanobis": (0, of_means + head),
        "residual": (0, covariance + queries * size * rest),
        "vim": (0, covariance + (queries + train) * size * (rest + classes)),
        "kl_matching": (0, head + train * size * classes + queries * classes**2),
    }.get(key, (0, head))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--plain", type=int, default=2000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--only", type=lambda names: names.split(","), help="keys of scores; default: all")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    means = rng.gamma(1.0, 1.0, (given.classes, given.size)).astype(np.float32)

    def some(n):
        labels = rng.integers(0, given.classes, n)
        noise = rng.normal(0, 0.6, (n, given.size)).astype(np.float32)
        return np.maximum(means[labels] + noise, 0).astype(np.float16), labels

    kernel = rng.normal(0, 0.1, (given.size, given.classes))
    training, (queries, _) = Training(*some(given.train), kernel, np.zeros(given.classes)), some(given.queries)
    rows = [score for score in table.SCORES if score.fit is not None and score.key in (given.only or [score.key])]
    theirs = {}
    for row in rows:
        setting_up, confidence = seconds(lambda row=row: by_openood(row.key, training))
        in_batches(confidence, queries[:200])  # loads
        plain, scores = seconds(lambda confidence=confidence: in_batches(confidence, queries[: given.plain]))
        theirs[row.key] = setting_up + plain * given.queries / given.plain, scores
    keep_freed_memory()
    single, double, copied = rates()
    print(f"{2e-9 * single:.0f} and {2e-9 * double:.0f} GFLOP/s, {1e-9 * copied:.0f} GB/s", flush=True)
    lines = [
        "| score | fit, s | scores, s | least, s | OpenOOD's formula, s | times as fast |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        fitting, fitted = seconds(lambda row=row: row.fit(training))
        apply(fitted, queries[:2000])  # compiles
        scoring, ours = seconds(lambda fitted=fitted: apply(fitted, queries))
        plain, scores = theirs[row.key]
        ranks = [np.argsort(np.argsort(one)) for one in (ours[: given.plain], -scores)]
        assert np.abs(ranks[0] - ranks[1]).mean() < 1e-3 * given.plain, row.key
        of_single, of_double = products_of(row.key, given.train, given.queries, given.size, given.classes)
        least = of_single / single + of_double / double + (training.features.nbytes + queries.nbytes) / copied
        ratio = plain / (fitting + scoring)
        lines.append(f"| {row.label} | {fitting:.2f} | {scoring:.2f} | {least:.2f} | {plain:.1f} | {ratio:.1f} |")
        print(lines[-1], flush=True)
    if given.write:
        write_between(given.write, "feature scores", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
