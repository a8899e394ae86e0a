"""Times the out-of-distribution scores of features beside OpenOOD's formulae in NumPy, on the same features.

    python benchmarks/feature_scores.py --train=50000 --queries=50000 --plain=2000 --write=docs/benchmarks-metrics.md

OpenOOD's formulae are computed as its files do, in batches of 200, for `--plain` queries; their time is multiplied to
that of all queries, since it is proportional to them.  Fitting is timed apart.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from document import write_between

from mixup_jax.libraries import keep_freed_memory
from mixup_jax.metrics import table
from mixup_jax.metrics.feature_scores import Training, apply

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from test_feature_scores import by_openood


def seconds(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def in_batches(confidence, queries, size=200):
    batches = (queries[start : start + size].astype(np.float64) for start in range(0, len(queries), size))
    return np.concatenate([confidence(batch) for batch in batches])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--plain", type=int, default=2000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    keep_freed_memory()  # as the command does
    rng = np.random.default_rng(0)
    means = rng.gamma(1.0, 1.0, (given.classes, given.size)).astype(np.float32)

    def some(n):
        labels = rng.integers(0, given.classes, n)
        noise = rng.normal(0, 0.6, (n, given.size)).astype(np.float32)
        return np.maximum(means[labels] + noise, 0).astype(np.float16), labels

    kernel = rng.normal(0, 0.1, (given.size, given.classes))
    training, (queries, _) = Training(*some(given.train), kernel, np.zeros(given.classes)), some(given.queries)
    lines = [
        "| score | fit, s | scores, s | OpenOOD's formula, s | times as fast |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in (score for score in table.SCORES if score.fit is not None):
        fitting, fitted = seconds(lambda row=row: row.fit(training))
        apply(fitted, queries[:2000])  # compiles
        scoring, ours = seconds(lambda fitted=fitted: apply(fitted, queries))
        setting_up, confidence = seconds(lambda row=row: by_openood(row.key, training))
        plain, theirs = seconds(lambda confidence=confidence: in_batches(confidence, queries[: given.plain]))
        ranks = [np.argsort(np.argsort(scores[: given.plain])) for scores in (ours, -theirs)]
        assert np.abs(ranks[0] - ranks[1]).mean() < 1e-3 * given.plain, row.key
        plain *= given.queries / given.plain
        ratio = (setting_up + plain) / (fitting + scoring)
        lines.append(f"| {row.label} | {fitting:.2f} | {scoring:.2f} | {setting_up + plain:.1f} | {ratio:.1f} |")
        print(lines[-1], flush=True)
    if given.write:
        write_between(given.write, "feature scores", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
