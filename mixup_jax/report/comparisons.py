"""Which groups are compared with which, and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixup_jax.report.differences import paired_intervals
from mixup_jax.report.groups import Group, differing, flatten, kind
from mixup_jax.report.quantities import Quantity, examples, ood_names
from mixup_jax.report.verdict import (
    Finding,
    Remark,
    caveat,
    claims,
    compare,
    confidence_remark,
    coverage,
    headline,
    ood_temperature_remark,
    seed_error,
    temperature_remark,
)
from mixup_jax.report.wording import setting

SHARED = ("data.name", "model.name", "model.width")
"""Settings that must be equal for two groups to be compared at all."""

NOT_TRAINING = ("seed", "experiment", "notes", "method", "evaluation", "parallel", "log_every_steps", "tensorboard")
"""Settings that may differ between compared groups without a word."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A mixup group against its baseline.

    Attributes:
      baseline: the group without mixup.
      mixup: the group with it.
      findings: one for each claim of the paper.
      headline: all of them in one sentence.
      remarks: what else a reader must know.
    """

    baseline: Group
    mixup: Group
    findings: tuple[Finding, ...]
    headline: str
    remarks: tuple[Remark, ...]


def make_comparisons(groups: Sequence[Group]) -> tuple[list[Comparison], str]:
    """Compares every mixup group with the baseline that resembles it most.

    Returns:
      The comparisons, and why there is none (empty where there is one).
    """
    baselines = [group for group in groups if kind(group.first) == "baseline"]
    mixups = [group for group in groups if kind(group.first) == "mixup"]
    if not mixups:
        return [], "No verdict: none of these runs was trained with mixup."
    if not baselines:
        return [], "No verdict: none of these runs is a baseline (no mixup, no label smoothing, no entropy term)."
    comparisons = []
    for group in mixups:
        candidates = [baseline for baseline in baselines if comparable(baseline, group)]
        if candidates:
            nearest = min(candidates, key=lambda baseline: len(_differences(baseline, group)))
            comparisons.append(_compare(nearest, group))
    if comparisons:
        return comparisons, ""
    return [], "No verdict: no baseline shares data set, model and test examples with a mixup run."


def comparable(one: Group, other: Group) -> bool:
    """Returns whether two groups share data set, network and test examples."""
    same_setting = all(one.first.setting(*key.split(".")) == other.first.setting(*key.split(".")) for key in SHARED)
    runs = (*one.runs, *other.runs)
    same_test = all(
        run.test_name == runs[0].test_name and np.array_equal(run.test.labels, runs[0].test.labels) for run in runs
    )
    return same_setting and same_test


def _differences(one: Group, other: Group) -> list[str]:
    return differing(one.first, other.first, NOT_TRAINING)


def _compare(baseline: Group, mixup: Group) -> Comparison:
    judged = claims([name for name in ood_names(baseline.runs) if name in ood_names(mixup.runs)])
    intervals = paired_intervals(baseline.runs, mixup.runs)
    sides = [
        {claim.key: found for claim in judged if (found := group.summary(Quantity(claim.key, "")))}
        for group in (baseline, mixup)
    ]
    counted = {claim.key: examples(mixup.first, Quantity(claim.key, "")) for claim in judged}
    findings = compare(judged, sides[0], sides[1], intervals, counted)
    remarks = [Remark("Under-confidence", _confidence(baseline, mixup))]
    remarks.append(Remark("After temperature scaling", _temperature(baseline, mixup, intervals.get("temperature"))))
    remarks += [Remark(f"On {name}", _ood_temperature(name, baseline, mixup)) for name in ood_names(baseline.runs)]
    settings = [flatten(group.first.config) for group in (baseline, mixup)]
    unequal = ", ".join(
        f"{key} ({setting(settings[0].get(key))} without mixup, {setting(settings[1].get(key))} with it)"
        for key in _differences(baseline, mixup)
    )
    remarks.append(Remark("Not like for like", f"the two also differ in {unequal}." if unequal else ""))
    remarks.append(Remark("The intervals", coverage(len(baseline.runs), len(mixup.runs))))
    told = tuple(remark for remark in remarks if remark.text)
    summary = headline(findings) + caveat(len(baseline.runs), len(mixup.runs))
    return Comparison(baseline, mixup, tuple(findings), summary, told)


def _confidence(baseline: Group, mixup: Group) -> str:
    gap = Quantity("confidence_minus_accuracy", "")
    before, after, accuracy = baseline.summary(gap), mixup.summary(gap), mixup.summary(Quantity("accuracy", ""))
    if before is None or after is None or accuracy is None:
        return ""
    return confidence_remark(before.mean, after.mean, accuracy.mean, mixup.first.result["n"])


def _temperature(baseline: Group, mixup: Group, interval: tuple[float, float] | None) -> str:
    raw, scaled = Quantity("ece_15", ""), Quantity("after_temperature/ece_15", "")
    before, after, against = baseline.summary(raw), baseline.summary(scaled), mixup.summary(raw)
    if before is None or after is None or against is None:
        return ""
    both = mixup.summary(scaled)
    error = seed_error(after, against)
    return temperature_remark(before.mean, after.mean, against.mean, both.mean if both else None, interval, error)


def _ood_temperature(name: str, baseline: Group, mixup: Group) -> str:
    keys = [
        f"ood/{name}/{key}"
        for key in ("mean_confidence", "after_temperature/mean_confidence", "auroc", "after_temperature/auroc")
    ]
    told = [baseline.summary(Quantity(key, "")) for key in keys]
    against = [mixup.summary(Quantity(key, "")) for key in (keys[0], keys[2])]
    means = [summary.mean for summary in (*told, *against) if summary is not None]
    return ood_temperature_remark(*means) if len(means) == len(told) + len(against) else ""
