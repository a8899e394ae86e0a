"""The simulations of benchmarks/interval_coverage.py: test sets of a known population, and how often intervals hold."""

import math

import numba
import numpy as np
import scipy.special

from mixup_jax import metrics
from mixup_jax.metrics.table import METRICS

POPULATION = 1 << 17
SPREAD = {2: 4.0, 10: 3.0, 100: 2.6}  # of the logits, for an accuracy of 0.8 to 0.9
BINNED = {row.key: row for row in METRICS if row.of in (("bins_15",), ("bins_100",)) and row.interval}
LOSSES = ("nll", "brier", "brier_top_label")
COMPARED = ("accuracy", "ece_15", "oe_15", "ece_100", "oe_100", "nll", "brier", "confidence_minus_accuracy")
OF_PARTS = ("brier_reliability_15", "brier_resolution_15", "brier_uncertainty_15")


def mean_of_folded_normal(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Does what the package's function does, with SciPy's error function, which takes arrays."""
    ratio = np.minimum(np.divide(mean, deviation, out=np.full(mean.shape, 40.0), where=deviation > 0), 40.0)
    folded = deviation * math.sqrt(2 / math.pi) * np.exp(-np.square(ratio) / 2)
    return folded + mean * scipy.special.erf(ratio / math.sqrt(2))


class Population:
    """Examples from which test sets are drawn: the label of each is drawn anew, right or wrong, for every test set."""

    def __init__(self, classes: int, gap: float, ties: bool, seed: int) -> None:
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, SPREAD[classes], (POPULATION, classes))
        true = metrics.log_softmax(logits)
        top = logits.argmax(axis=1)
        each = np.arange(POPULATION)
        self.right = np.exp(true[each, top])
        if ties:  # two decimals: test sets of a few hundred distinct confidences
            self.confidence = np.round(self.right + gap, 2).clip(0.01, 1.0)
            self.right = (self.confidence - gap).clip(0.0, 1.0)
            self.losses = np.tile(-np.log(self.confidence), (2, 2, 1))
            return
        given = logits / temperature_of(logits, gap)
        self.confidence = metrics.max_probability(given)
        others = np.where(each[:, None] * 0 + np.arange(classes) == top[:, None], -np.inf, true)
        wrong = (others + rng.gumbel(0, 1, others.shape)).argmax(axis=1)
        # losses[0] if the prediction is right, losses[1] if it is wrong: of NLL and Brier score
        self.losses = np.array(
            [[metrics.nll_of_each(given, label), metrics.brier_of_each(given, label)] for label in (top, wrong)]
        )


def temperature_of(logits: np.ndarray, gap: float) -> float:
    """Returns the temperature, by bisection, at which the mean confidence is above that of these logits by the gap."""
    low, high, right = 0.2, 5.0, metrics.max_probability(logits).mean()
    for _ in range(16):
        temperature = math.sqrt(low * high)
        gap_now = metrics.max_probability(logits / temperature).mean() - right
        low, high = (temperature, high) if gap_now > gap else (low, temperature)
    return temperature if gap else 1.0


@numba.njit(cache=True, nogil=True)
def equal_mass_gaps(here, confidence, correct, tie, n):
    """Returns n times the ECE of 15 bins of equal mass of sorted examples that occur `here[j]` times, n in all."""
    wanted, cut, end, last_end, before_end = 15, 1, 0, 0, 0
    residual = last_residual = before_residual = total = 0.0
    last = here.size - 1
    for j in range(here.size):
        end += here[j]
        residual += here[j] * (confidence[j] - correct[j])
        if (j == last or tie[j + 1] != tie[j]) and end > before_end:  # the end of a group of equal confidences
            while cut < wanted and cut * n <= end * wanted:
                lower = cut * n - wanted * before_end <= wanted * end - cut * n
                at, value = (before_end, before_residual) if lower else (end, residual)
                if at > last_end:
                    total += abs(value - last_residual)
                    last_end, last_residual = at, value
                cut += 1
            before_end, before_residual = end, residual
    return total + abs(residual - last_residual)


@numba.njit(cache=True, nogil=True)
def resample(order, confidence, correct, losses, bins, many_bins, tie, harmonic, resamples, seed):
    """Returns, for resamples of sorted examples, the sums of both kinds of bins, adaptive ECE, AURC, E-AURC and losses.

    A first resample is the set itself.
    """
    n = order.size
    few = np.zeros((resamples + 1, 15, 3))
    many = np.zeros((resamples + 1, 100, 3))
    found = np.zeros((resamples + 1, 3 + losses.shape[0]))
    counts, here = np.empty(n, np.int64), np.empty(n, np.int64)
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    for b in range(resamples + 1):
        counts[:] = 1 if b == 0 else 0
        if b:
            for _ in range(n):
                state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                word = (state ^ (state >> np.uint64(33))) >> np.uint64(20) & np.uint64(0xFFFFFFFF)
                counts[(word * np.uint64(n)) >> np.uint64(32)] += 1
        for j in range(n):
            here[j] = counts[order[j]]
        for loss in range(losses.shape[0]):
            sum_ = 0.0
            for j in range(n):
                sum_ += here[j] * losses[loss, j]
            found[b, 3 + loss] = sum_ / n
        size, sum_, right = 0, 0.0, 0.0
        for j in range(n):
            c = here[j]
            size += c
            sum_ += c * confidence[j]
            right += c * correct[j]
            if j == n - 1 or many_bins[j + 1] != many_bins[j] or bins[j + 1] != bins[j]:
                few[b, bins[j], 0] += size
                few[b, bins[j], 1] += sum_
                few[b, bins[j], 2] += right
                many[b, many_bins[j], 0] += size
                many[b, many_bins[j], 1] += sum_
                many[b, many_bins[j], 2] += right
                size, sum_, right = 0, 0.0, 0.0
        found[b, 0] = equal_mass_gaps(here, confidence, correct, tie, n) / n
        start, errors, risk, j = 0, 0.0, 0.0, n - 1
        while j >= 0:  # the surest first
            first = j
            j -= 1
            size, wrong = here[first], here[first] * (1.0 - correct[first])
            while j >= 0 and tie[j] == tie[first]:
                size += here[j]
                wrong += here[j] * (1.0 - correct[j])
                j -= 1
            if size:
                rate = (0.0 if wrong == 0.0 else 1.0) if first - j == 1 else wrong / size
                risk += rate * size + (errors - rate * start) * (harmonic[start + size] - harmonic[start])
                start += size
                errors += wrong
        found[b, 1] = risk / n
        e = int(errors)
        found[b, 2] = max((risk - (e - (n - e) * (harmonic[n] - harmonic[n - e]))) / n, 0.0)
    return few, many, found


def replicates(confidence, correct, losses, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Returns each number of a test set and of its resamples, `[1 + resamples]`."""
    n = len(confidence)
    order = np.argsort(confidence, kind="stable")
    ascending, right = confidence[order], correct[order].astype(np.float64)
    bins, many_bins = (np.maximum(np.searchsorted(np.linspace(0, 1, m + 1), ascending) - 1, 0) for m in (15, 100))
    tie = np.cumsum(np.diff(ascending, prepend=-1.0) != 0)
    harmonic = np.concatenate([[0.0], (1 / np.arange(1, n + 1)).cumsum()])
    all_losses = np.concatenate([losses[:, order], np.square(ascending - right)[None]])
    few, many, found = resample(order, ascending, right, all_losses, bins, many_bins, tie, harmonic, resamples, seed)
    values = of_bins({15: np.moveaxis(few, -1, 0), 100: np.moveaxis(many, -1, 0)})
    names = ("adaptive_ece_15", "aurc", "e_aurc", *LOSSES)
    return values | dict(zip(names, found.T, strict=True))


def of_bins(sums: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the numbers that are computed from the sums of bins."""
    count, confidence, right = sums[15]
    n, rows = count.sum(axis=1), {row.key: row for row in METRICS}
    values = {"accuracy": right.sum(axis=1) / n, "confidence_minus_accuracy": (confidence - right).sum(axis=1) / n}
    values |= {key: row.interval.replicates(Sums(sums), row.bins) for key, row in BINNED.items() if row.bins}
    return values | {key: rows[key].interval.replicates(Sums(sums), 15) for key in OF_PARTS}


def replicates_of_cells(confidence, correct, losses, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the numbers of bins as `replicates` does, in a tenth of the time for 10,000 examples.

    The numbers of right and of wrong examples between two neighbouring edges of bins are drawn together, from a
    multinomial, and each example takes the mean confidence of its kind: less than 0.01 from its own.
    """
    edges = np.unique(np.concatenate([np.linspace(0, 1, 16), np.linspace(0, 1, 101)]).round(12))
    cell = 2 * np.maximum(np.searchsorted(edges, confidence - 1e-12) - 1, 0) + correct
    count, total = np.bincount(cell), np.bincount(cell, confidence)
    used = np.flatnonzero(count)
    n = len(confidence)
    drawn = np.random.default_rng(seed).multinomial(n, count[used] / n, size=resamples)
    weights = np.concatenate([count[used][None], drawn])
    middle = (edges[used // 2] + edges[used // 2 + 1]) / 2
    sums = {}
    for bins in (15, 100):
        places, starts = np.unique((middle * bins).astype(int), return_index=True)
        parts = (weights, weights * (total[used] / count[used]), weights * (used % 2))
        sums[bins] = np.zeros((3, resamples + 1, bins))
        for one, part in zip(sums[bins], parts, strict=True):
            one[:, places] = np.add.reduceat(part, starts, axis=1)
    return of_bins(sums)


class Sums:
    """Stands for `Resamples`, of which the replicates of bins need only the sums."""

    def __init__(self, sums: dict[int, np.ndarray]) -> None:
        self._sums = sums

    def sums(self, n_bins: int) -> np.ndarray:
        """Returns count, sum of confidence and number correct of each bin, `[3, R, bins]`."""
        return self._sums[n_bins]


def intervals(found: dict[str, np.ndarray], limits: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Returns `resampling.interval_around` of each number from the set's own value and its replicates, faster.

    These quantiles have the expected level for any number of resamples; of 1,000, as the package draws, its own have it
    within 0.2 points.
    """
    values = np.array(list(found.values()))
    bias = values[:, 1:].mean(axis=1) - values[:, 0]
    low, high = np.quantile(values[:, 1:], [0.025, 0.975], axis=1, method="weibull") - bias
    lowest, highest = np.array([limits.get(key, (-np.inf, np.inf)) for key in found]).T
    low, high = np.minimum(np.maximum(low, lowest), values[:, 0]), np.maximum(np.minimum(high, highest), values[:, 0])
    return dict(zip(found, zip(low, high, strict=True), strict=True))


def covered(measured: dict[str, list[float]], ends: dict[str, list[tuple[float, float]]]) -> dict[str, dict]:
    """Returns for each number the share of intervals that hold its mean over the test sets, and what else is told."""
    found = {}
    for key, values in measured.items():
        mean, (low, high) = float(np.mean(values)), np.array(ends[key]).T
        found[key] = {
            "coverage": float(((low <= mean) & (mean <= high)).mean()),
            "below": float((high < mean).mean()),
            "above": float((low > mean).mean()),
            "mean": mean,
            "deviation": float(np.std(values)),
            "length": float((high - low).mean()),
        }
    return found


LIMITS = {row.key: row.limits for row in METRICS}


def test_sets(
    n: int, classes: int, gap: float, ties: bool, cells: bool, repeats: int, resamples: int, seed: int
) -> dict:
    """Returns the coverage of the intervals of one record, and of the noise floor where it is calibrated."""
    population, rng = Population(classes, gap, ties, seed), np.random.default_rng([seed, 1])
    measured: dict[str, list[float]] = {}
    ends: dict[str, list[tuple[float, float]]] = {}
    over = {15: [], 100: []}
    replicates_by = replicates_of_cells if cells else replicates
    for number in range(repeats):
        rows = rng.integers(0, POPULATION, n)
        correct = rng.random(n) < population.right[rows]
        confidence = population.confidence[rows]
        losses = np.where(correct, population.losses[0][:, rows], population.losses[1][:, rows])
        values = replicates_by(confidence, correct, losses, resamples, seed * 10**6 + number)
        for key, of_key in intervals(values, LIMITS).items():
            measured.setdefault(key, []).append(float(values[key][0]))
            ends.setdefault(key, []).append(of_key)
        ends["accuracy"][-1] = metrics.wilson_interval(int(correct.sum()), n)
        if gap == 0.0:
            for bins, found in over.items():
                floor = metrics.noise_floor(confidence, bins)
                found.append((measured[f"ece_{bins}"][-1] > floor.p95, floor.mean))
    found = {"intervals": covered(measured, ends)}
    if gap == 0.0:
        found["floors"] = {
            f"ece_{bins}": {
                "above p95": float(np.mean([above for above, _ in pairs])),
                "floor": float(np.mean([mean for _, mean in pairs])),
                "mean": float(np.mean(measured[f"ece_{bins}"])),
            }
            for bins, pairs in over.items()
        }
    return found


def pairs(n: int, classes: int, gap: float, ties: bool, repeats: int, resamples: int, seed: int) -> dict:
    """Returns the coverage of paired differences of two networks, the first with the gap, the second calibrated."""
    one, other = Population(classes, gap, ties, seed), Population(classes, 0.0, ties, seed)
    rng = np.random.default_rng([seed, 2])
    noise = rng.normal(0, 0.1, POPULATION)  # the confidences of the second are others, and so are its mistakes
    other_confidence = 1 / (1 + np.exp(-(np.log(other.confidence / (1 - other.confidence).clip(1e-12)) + noise)))
    measured: dict[str, list[float]] = {}
    ends: dict[str, list[tuple[float, float]]] = {}
    for number in range(repeats):
        rows, uniform = rng.integers(0, POPULATION, n), rng.random(n)
        sides = []
        mixed = np.where(rng.random(n) < 0.9, uniform, rng.random(n))  # nine of ten outcomes are shared
        for confidence, right, drawn, losses in (
            (one.confidence[rows], one.right[rows], uniform, one.losses),
            (other_confidence[rows], other.right[rows], mixed, other.losses),
        ):
            correct = drawn < right
            of_each = np.where(correct, losses[0][:, rows], losses[1][:, rows])
            sides.append(replicates(confidence, correct, of_each, resamples, seed * 10**6 + number))
        values = {key: sides[0][key] - sides[1][key] for key in COMPARED}
        for key, of_key in intervals(values, {}).items():
            measured.setdefault(key, []).append(float(values[key][0]))
            ends.setdefault(key, []).append(of_key)
        # The interval of the difference of mean confidences: normal, as in the report.
        differences = one.confidence[rows] - other_confidence[rows]
        reach = 1.96 * differences.std() / math.sqrt(n)
        mean = float(differences.mean())
        measured.setdefault("mean_confidence", []).append(mean)
        ends.setdefault("mean_confidence", []).append((mean - reach, mean + reach))
    return {"intervals": covered(measured, ends)}


@numba.njit(cache=True, nogil=True)
def resample_detection(outside, order_in, order_out, tie, n, m, resamples, seed):
    """Returns AUPR-in, AUPR-out, FPR95-OOD, FPR95-ID and AUROC of two sets, in ascending order, and of resamples."""
    found = np.zeros((resamples + 1, 5))
    counts, other_counts = np.empty(n, np.int64), np.empty(m, np.int64)
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    size = n + m
    for b in range(resamples + 1):
        counts[:] = 1 if b == 0 else 0
        other_counts[:] = 1 if b == 0 else 0
        if b:
            for i in range(size):
                state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                word = (state ^ (state >> np.uint64(33))) >> np.uint64(20) & np.uint64(0xFFFFFFFF)
                if i < n:
                    counts[(word * np.uint64(n)) >> np.uint64(32)] += 1
                else:
                    other_counts[(word * np.uint64(m)) >> np.uint64(32)] += 1
        need_in, need_out = (95 * n + 99) // 100, (95 * m + 99) // 100
        done = False
        area = 0.0
        for pass_ in range(2):  # upwards, in-distribution first; then downwards
            seen_in, seen_out, precision, done, j = 0, 0, 0.0, False, 0
            while j < size:
                here, new_in, new_out = tie[j if pass_ == 0 else size - 1 - j], 0, 0
                while j < size and tie[j if pass_ == 0 else size - 1 - j] == here:
                    at = j if pass_ == 0 else size - 1 - j
                    if outside[at]:
                        new_out += other_counts[order_out[at]]
                    else:
                        new_in += counts[order_in[at]]
                    j += 1
                if pass_ == 0:
                    area += new_out * (2.0 * seen_in + new_in)
                seen_in += new_in
                seen_out += new_out
                new = new_in if pass_ == 0 else new_out
                if new:
                    precision += new * (seen_in if pass_ == 0 else seen_out) / (seen_in + seen_out)
                if not done and pass_ == 0 and seen_in >= need_in:
                    found[b, 3], done = seen_out / m, True
                if not done and pass_ == 1 and seen_out >= need_out:
                    found[b, 2], done = seen_in / n, True
            found[b, pass_] = precision / (n if pass_ == 0 else m)
        found[b, 4] = area / (2.0 * n * m)
    return found


def detections(n: int, distance: float, ties: bool, repeats: int, resamples: int, seed: int) -> dict:
    """Returns the coverage of intervals of two sets of scores, normal with unequal spread, n in and n // 2 out."""
    rng = np.random.default_rng([seed, 3])
    m = n // 2
    measured: dict[str, list[float]] = {}
    ends: dict[str, list[tuple[float, float]]] = {}
    for number in range(repeats):
        inside, outside = rng.normal(0, 1, n), rng.normal(distance, 1.3, m)
        near = inside + rng.normal(0, 0.5, n), outside + rng.normal(0, 0.5, m)  # the second network's
        if ties:
            inside, outside = np.round(inside, 1), np.round(outside, 1)
            near = tuple(np.round(scores, 1) for scores in near)
        low_high = metrics.auroc_interval(inside, outside)
        values = [of_sets(*sets, resamples, seed * 10**6 + number) for sets in ((inside, outside), near)]
        measured.setdefault("auroc", []).append(float(values[0][0, 4]))
        ends.setdefault("auroc", []).append(low_high)
        found = dict(zip(("aupr_in", "aupr_out", "fpr95_ood", "fpr95_id"), values[0].T[:4], strict=True))
        found["auroc_difference"] = values[0][:, 4] - values[1][:, 4]
        for key, of_key in intervals(found, dict.fromkeys(list(found)[:4], (0.0, 1.0))).items():
            measured.setdefault(key, []).append(float(found[key][0]))
            ends.setdefault(key, []).append(of_key)
    return {"intervals": covered(measured, ends)}


def of_sets(inside: np.ndarray, outside: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    scores = np.concatenate([inside, outside])
    order = np.argsort(scores, kind="stable")
    is_out = order >= len(inside)
    tie = np.cumsum(np.diff(scores[order], prepend=-np.inf) != 0)
    places = np.where(is_out, order - len(inside), order)
    return resample_detection(is_out, places, places, tie, len(inside), len(outside), resamples, seed)
