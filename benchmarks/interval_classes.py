"""The simulation of intervals that are made on request: of all classes, smooth ECE, AUGRC; and of conformal sets."""

import numba
import numpy as np
from interval_simulation import LIMITS, POPULATION, SPREAD, covered, equal_mass_gaps, intervals, temperature_of

from mixup_jax import metrics
from mixup_jax.metrics.replicates import Resamples, smooth_replicates, sorted_run
from mixup_jax.metrics.resampling import resample_counts

THRESHOLD = 1e-3  # of TACE


@numba.njit(cache=True, nogil=True)
def of_classes(counts, order, probability, of_label, bins, tie, threshold):
    """Returns class-wise ECE and TACE of resamples `counts[r, i]`; all else is `[K, N]`, ascending in a class."""
    found = np.zeros((counts.shape[0], 2))
    classes, n = order.shape
    here, kept = np.empty(n, np.int64), np.empty(n, np.int64)
    for b in range(counts.shape[0]):
        for k in range(classes):
            gap = 0.0
            for j in range(n):
                here[j] = counts[b, order[k, j]]
                kept[j] = here[j] if probability[k, j] > threshold else 0
                gap += here[j] * (probability[k, j] - of_label[k, j])
                if j == n - 1 or bins[k, j + 1] != bins[k, j]:
                    found[b, 0] += abs(gap) / n / classes
                    gap = 0.0
            size = kept.sum()
            if size:
                found[b, 1] += equal_mass_gaps(kept, probability[k], of_label[k], tie[k], size) / size / classes
    return found


def replicates_of_classes(logits, labels, counts) -> dict[str, np.ndarray]:
    """Returns class-wise ECE and TACE of each resample."""
    probability = np.exp(metrics.log_softmax(logits)).T
    order = np.argsort(probability, axis=1, kind="stable")
    ascending = np.take_along_axis(probability, order, axis=1)
    of_label = (labels[order] == np.arange(len(order))[:, None]).astype(np.float64)
    bins = np.maximum(np.searchsorted(np.linspace(0, 1, 16), ascending) - 1, 0)
    tie = np.cumsum(np.diff(ascending, axis=1, prepend=-1.0) != 0, axis=1)
    found = of_classes(counts, order, ascending, of_label, bins, tie, THRESHOLD)
    return dict(zip(("classwise_ece_15", "tace_15"), found.T, strict=True))


def replicates_of_order(confidence, correct, counts) -> dict[str, np.ndarray]:
    """Returns smooth ECE and AUGRC of each resample; equal confidences are those of one example."""
    smooth = smooth_replicates(Resamples(sorted_run(confidence, correct), counts), 0)
    surest = np.argsort(-confidence)
    weights, wrong = counts[:, surest], ~correct[surest]
    errors = weights * wrong
    area = ((errors.cumsum(axis=1) - errors) * weights + wrong * weights * (weights + 1) / 2).sum(axis=1)
    return {"smooth_ece": smooth, "augrc": (area - errors.sum(axis=1) / 2) / len(confidence) ** 2}


def on_request(n: int, classes: int, gap: float, repeats: int, resamples: int, seed: int) -> dict:
    """Returns the coverage of the slow intervals of one record; where it is calibrated also that of floors and test."""
    rng = np.random.default_rng([seed, 4])

    def drawn(size: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.normal(0, SPREAD[classes], (size, classes))
        return true, (true + rng.gumbel(0, 1, true.shape)).argmax(axis=1)

    true, labels = drawn(POPULATION)
    temperature = temperature_of(true, gap)
    scores = np.sort(np.exp(metrics.nll_of_each(true / temperature, labels)) ** -1)[::-1]  # p of the label
    measured, ends, floors = {}, {}, {"adaptive_ece_15": [], "smooth_ece": []}
    inside, p_values = [], []
    for number in range(repeats):
        true, labels = drawn(n)
        logits = true / temperature
        confidence, correct = metrics.confidence_and_correct(logits, labels)
        counts = np.concatenate([np.ones((1, n), np.int64), *resample_counts(n, resamples, [seed, number])])
        values = replicates_of_classes(logits, labels, counts) | replicates_of_order(confidence, correct, counts)
        for key, of_key in intervals(values, LIMITS).items():
            measured.setdefault(key, []).append(float(values[key][0]))
            ends.setdefault(key, []).append(of_key)
        # The sets of the second half by a threshold of the first: the interval is for the coverage of this threshold.
        half = n // 2
        threshold = metrics.conformal_threshold(logits[:half], labels[:half])
        sets = metrics.prediction_sets(logits[half:], labels[half:], threshold)
        low, high = metrics.coverage_of(sets, labels[half:])["intervals"]["coverage"]
        inside.append(low <= np.searchsorted(1 - scores, threshold, side="right") / POPULATION <= high)
        if gap == 0.0:
            adaptive = metrics.adaptive_ece(confidence, correct)
            for key, value, floor in (
                ("adaptive_ece_15", adaptive, metrics.adaptive_noise_floor(confidence)),
                ("smooth_ece", measured["smooth_ece"][-1], metrics.smooth_noise_floor(confidence)),
            ):
                floors[key].append((value > floor.p95, floor.mean, value))
            p_values.append(metrics.calibration_test(confidence, correct, seed=number)["p_value"])
    found = {"intervals": covered(measured, ends) | {"conformal_coverage": {"coverage": float(np.mean(inside))}}}
    if gap == 0.0:
        means = {key: np.mean(of_key, axis=0) for key, of_key in floors.items()}
        found["floors"] = {
            key: dict(zip(("above p95", "floor", "mean"), map(float, of_key), strict=True))
            for key, of_key in means.items()
        }
        found["calibration_test"] = {"p at most 0.05": float(np.mean(np.array(p_values) <= 0.05))}
    return found
