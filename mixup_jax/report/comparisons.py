"""Compares each mixup group with its nearest baseline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from mixup_jax.metrics.intervals import paired_bootstrap_auroc_difference, paired_bootstrap_differences
from mixup_jax.metrics.softmax import Bools, Floats
from mixup_jax.report import claims
from mixup_jax.report.claims import Finding, Interval, Remark
from mixup_jax.report.formatting import setting
from mixup_jax.report.groups import NOT_TRAINING, Group, differing, flatten, nearest_baseline
from mixup_jax.report.quantities import Quantity, examples, ood_names
from mixup_jax.report.runs import RunRecord
from mixup_jax.report.workers import RunAll, Task, serially

NORMAL_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A mixup group against its baseline: a finding for each claim, the outcome in a sentence, and other remarks."""

    baseline: Group
    mixup: Group
    findings: tuple[Finding, ...]
    headline: str
    remarks: tuple[Remark, ...]


def make_comparisons(groups: Sequence[Group], run_all: RunAll = serially) -> tuple[list[Comparison], str]:
    """Returns comparisons of every mixup group with its nearest baseline, and the reason if there is none (else empty).

    `run_all` computes the intervals.
    """
    kinds = [group.first.kind for group in groups]
    if "mixup" not in kinds:
        return [], "No verdict: none of these runs was trained with mixup."
    if "baseline" not in kinds:
        return [], "No verdict: none of these runs is a baseline (no mixing, and the plain cross-entropy)."
    mixups = [group for group in groups if group.first.kind == "mixup"]
    pairs = [(nearest_baseline(group, groups), group) for group in mixups]
    comparisons = [_compare(baseline, group, run_all) for baseline, group in pairs if baseline is not None]
    reason = "" if comparisons else "No verdict: no baseline shares data set, model and test examples with a mixup run."
    return comparisons, reason


def _compare(baseline: Group, mixup: Group, run_all: RunAll) -> Comparison:
    intervals = paired_intervals(baseline.runs, mixup.runs, run_all)
    findings = []
    for claim in claims.claims([name for name in ood_names(baseline.runs) if name in ood_names(mixup.runs)]):
        quantity = Quantity(claim.key, "")
        before, after = baseline.summary(quantity), mixup.summary(quantity)
        if before and after:
            n = examples(mixup.first, quantity)
            findings.append(claims.find(claim, before, after, intervals.get(claim.key), n))
    remarks = [Remark("Under-confidence", _confidence(baseline, mixup))]
    remarks.append(Remark("After temperature scaling", _temperature(baseline, mixup, intervals.get("temperature"))))
    remarks += [Remark(f"On {name}", _ood_temperature(name, baseline, mixup)) for name in ood_names(baseline.runs)]
    settings = [flatten(group.first.recorded) for group in (baseline, mixup)]
    unequal = ", ".join(
        f"{key} ({setting(settings[0].get(key))} without mixup, {setting(settings[1].get(key))} with it)"
        for key in differing(baseline.first, mixup.first, NOT_TRAINING)
    )
    remarks.append(Remark("Not like for like", f"the two also differ in {unequal}." if unequal else ""))
    remarks.append(Remark("The intervals", claims.coverage(len(baseline.runs), len(mixup.runs))))
    told = tuple(remark for remark in remarks if remark.text)
    summary = claims.headline(findings) + claims.caveat(len(baseline.runs), len(mixup.runs))
    return Comparison(baseline, mixup, tuple(findings), summary, told)


def _confidence(baseline: Group, mixup: Group) -> str:
    gap = Quantity("confidence_minus_accuracy", "")
    before, after, accuracy = baseline.summary(gap), mixup.summary(gap), mixup.summary(Quantity("accuracy", ""))
    if before is None or after is None or accuracy is None:
        return ""
    return claims.confidence_remark(before.mean, after.mean, accuracy.mean, mixup.first.result["n"])


def _temperature(baseline: Group, mixup: Group, interval: tuple[float, float] | None) -> str:
    raw, scaled = Quantity("ece_15", ""), Quantity("after_temperature/ece_15", "")
    before, after, against = baseline.summary(raw), baseline.summary(scaled), mixup.summary(raw)
    if before is None or after is None or against is None:
        return ""
    both = mixup.summary(scaled)
    error = claims.seed_error(after, against)
    return claims.temperature_remark(
        before.mean, after.mean, against.mean, both.mean if both else None, interval, error
    )


def _ood_temperature(name: str, baseline: Group, mixup: Group) -> str:
    keys = [
        f"ood/{name}/{key}"
        for key in ("mean_confidence", "after_temperature/mean_confidence", "auroc", "after_temperature/auroc")
    ]
    told = [baseline.summary(Quantity(key, "")) for key in keys]
    against = [mixup.summary(Quantity(key, "")) for key in (keys[0], keys[2])]
    means = [summary.mean for summary in (*told, *against) if summary is not None]
    return claims.ood_temperature_remark(*means) if len(means) == len(told) + len(against) else ""


def paired_intervals(
    baseline: Sequence[RunRecord], mixup: Sequence[RunRecord], run_all: RunAll = serially
) -> dict[str, Interval]:
    """Returns 95 % intervals of mixup minus baseline by the keys of results.json.

    Accuracy, ECE, OE and AUROC have paired bootstrap intervals.  With several seeds the ends are
    averaged over pairs of runs, which is not narrower than an interval of the mean difference.  Mean
    confidence is a mean over examples and has the paired normal interval.

    If the whole baseline has temperatures, the key "temperature" has mixup's ECE (15 bins) as trained minus
    the baseline's ECE after temperature scaling.  The runs of both groups were tested on the same examples in the same
    order.
    """
    sets = [name for name in baseline[0].ood if _same_set(name, [*baseline, *mixup])]
    scaled = all(run.temperature is not None for run in baseline)
    tasks = [task for one, other in _pairs(baseline, mixup) for task in _bootstraps(one, other, sets, scaled)]
    found: dict[str, list[Interval]] = {}
    for intervals in run_all(tasks):
        for key, interval in intervals.items():
            found.setdefault(key, []).append(interval)
    averaged = {
        key: (float(np.mean([low for low, _ in ends])), float(np.mean([high for _, high in ends])))
        for key, ends in found.items()
    }
    for name in sets:
        confidences = [
            np.mean([run.ood[name].trained.confidence for run in side], axis=0) for side in (mixup, baseline)
        ]
        averaged[f"ood/{name}/mean_confidence"] = mean_interval(confidences[0] - confidences[1])
    return averaged


def mean_interval(differences: Floats) -> Interval:
    """Returns the normal 95 % interval of the mean of `[N]`, `m -+ 1.96 s / sqrt(N)`; its width is 0 for N = 1."""
    n = len(differences)
    reach = NORMAL_95 * float(differences.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    mean = float(differences.mean())
    return mean - reach, mean + reach


def _pairs(baseline: Sequence[RunRecord], mixup: Sequence[RunRecord]) -> list[tuple[RunRecord, RunRecord]]:
    """Returns pairs of runs such that the mean of their differences is the difference of the means."""
    if len(baseline) == len(mixup):
        return list(zip(baseline, mixup, strict=True))
    return list(product(baseline, mixup))


def _bootstraps(
    baseline: RunRecord, mixup: RunRecord, sets: Sequence[str], scaled: bool
) -> Iterator[Task[dict[str, Interval]]]:
    """Yields the tasks that compute the bootstrap intervals of a pair of runs; each is a function of arrays."""
    yield partial(_test_intervals, mixup.outcomes(), baseline.outcomes())
    if scaled:
        yield partial(_temperature_interval, mixup.outcomes(), baseline.outcomes(scaled=True))
    for name in sets:
        scores = [recorded.trained.msp for run in (mixup, baseline) for recorded in (run.test, run.ood[name])]
        yield partial(_auroc_interval, f"ood/{name}/auroc", scores)


def _test_intervals(mixup: tuple[Floats, Bools], baseline: tuple[Floats, Bools]) -> dict[str, Interval]:
    found = paired_bootstrap_differences(*mixup, *baseline, n_bins=(15, 100))
    return {key: (difference.low, difference.high) for key, difference in found.items()}


def _temperature_interval(mixup: tuple[Floats, Bools], scaled: tuple[Floats, Bools]) -> dict[str, Interval]:
    found = paired_bootstrap_differences(*mixup, *scaled, n_bins=(15,))["ece_15"]
    return {"temperature": (found.low, found.high)}


def _auroc_interval(key: str, scores: Sequence[Floats]) -> dict[str, Interval]:
    found = paired_bootstrap_auroc_difference(*scores)
    return {key: (found.low, found.high)}


def _same_set(name: str, runs: Sequence[RunRecord]) -> bool:
    sizes = {len(run.ood[name].labels) if name in run.ood else None for run in runs}
    return len(sizes) == 1 and None not in sizes
