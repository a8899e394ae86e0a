"""How far the difference between two groups of runs depends on the choice of test examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from mixup_jax.metrics.intervals import paired_bootstrap_auroc_difference, paired_bootstrap_differences
from mixup_jax.metrics.ood_scores import msp_score
from mixup_jax.metrics.softmax import Floats, max_probability
from mixup_jax.report.runs import Run

Interval = tuple[float, float]

NORMAL_95 = 1.959963984540054
"""The standard normal distribution has 95 % of its mass within plus or minus this."""


def paired_intervals(baseline: Sequence[Run], mixup: Sequence[Run]) -> dict[str, Interval]:
    """Returns 95 % intervals of mixup minus baseline by the keys of results.json.

    Accuracy, ECE, OE and AUROC have paired bootstrap intervals.  With several seeds the ends are
    averaged over pairs of runs, which is no narrower than an interval of the mean difference.  Mean
    confidence is a plain mean over examples and has the paired normal interval.

    The further key "temperature" has mixup's ECE (15 bins) as trained minus the baseline's after
    temperature scaling, where all of the baseline was scaled.

    Args:
      baseline: runs of one group.
      mixup: runs of the other, tested on the very same examples in the same order.
    """
    pairs = _pairs(baseline, mixup)
    intervals = _averaged(_test_intervals(one, other) for one, other in pairs)
    if all(run.temperature is not None for run in baseline):
        intervals |= _averaged(_temperature_interval(one, other) for one, other in pairs)
    for name in baseline[0].ood:
        if _same_set(name, [*baseline, *mixup]):
            intervals |= _averaged(_auroc_interval(name, one, other) for one, other in pairs)
            confidences = [
                np.mean([max_probability(run.ood[name].logits) for run in side], axis=0) for side in (mixup, baseline)
            ]
            intervals[f"ood/{name}/mean_confidence"] = mean_interval(confidences[0] - confidences[1])
    return intervals


def mean_interval(differences: Floats) -> Interval:
    """Returns the normal 95 % interval of a mean, `m -+ 1.96 s / sqrt(N)`; no width for N = 1.

    Args:
      differences: `[N]`, N >= 1.
    """
    n = len(differences)
    reach = NORMAL_95 * float(differences.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    mean = float(differences.mean())
    return mean - reach, mean + reach


def _pairs(baseline: Sequence[Run], mixup: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Returns pairs of runs whose mean difference is the difference of the means."""
    if len(baseline) == len(mixup):
        return list(zip(baseline, mixup, strict=True))
    return list(product(baseline, mixup))


def _averaged(intervals: Iterable[dict[str, Interval]]) -> dict[str, Interval]:
    listed = list(intervals)
    return {
        key: (float(np.mean([one[key][0] for one in listed])), float(np.mean([one[key][1] for one in listed])))
        for key in listed[0]
    }


def _test_intervals(baseline: Run, mixup: Run) -> dict[str, Interval]:
    found = paired_bootstrap_differences(*mixup.outcomes(), *baseline.outcomes(), n_bins=(15, 100))
    return {key: (difference.low, difference.high) for key, difference in found.items()}


def _temperature_interval(baseline: Run, mixup: Run) -> dict[str, Interval]:
    scaled = baseline.outcomes(baseline.temperature or 1.0)
    found = paired_bootstrap_differences(*mixup.outcomes(), *scaled, n_bins=(15,))["ece_15"]
    return {"temperature": (found.low, found.high)}


def _same_set(name: str, runs: Sequence[Run]) -> bool:
    sizes = {len(run.ood[name].labels) if name in run.ood else None for run in runs}
    return len(sizes) == 1 and None not in sizes


def _auroc_interval(name: str, baseline: Run, mixup: Run) -> dict[str, Interval]:
    scores = [msp_score(record.logits) for run in (mixup, baseline) for record in (run.test, run.ood[name])]
    found = paired_bootstrap_auroc_difference(*scores)
    return {f"ood/{name}/auroc": (found.low, found.high)}
