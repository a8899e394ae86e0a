"""Sentences that say what figures and tables show, from the numbers of the groups."""

from collections.abc import Callable, Iterable, Sequence

from mixup_jax.report import formatting
from mixup_jax.report.claims import headline
from mixup_jax.report.comparisons import Comparison
from mixup_jax.report.groups import (
    Group,
    alpha_families,
    best_of,
    reach,
    short_names,
    soft_label_families,
    summaries_of,
)
from mixup_jax.report.quantities import Quantity, ood_names

ECE = Quantity("ece_15", "ECE (15 bins)", "lower")
ACCURACY = Quantity("accuracy", "Accuracy", "higher")
SCALED = Quantity("after_temperature/ece_15", "after temperature scaling ECE", "lower")
SUREST = Quantity("accuracy_at_coverage/0.8", "Accuracy on the surest 80 %", "higher")
CHANCE = 0.5  # the AUROC of a score that tells nothing


def verdict(comparisons: Sequence[Comparison], groups: Sequence[Group]) -> str:
    """Returns the outcome of the whole page in one sentence."""
    if not comparisons:
        return _joined([_leader(groups, ACCURACY, "Highest accuracy"), _leader(groups, ECE, "lowest ECE (15 bins)")])
    findings = [finding for comparison in comparisons for finding in comparison.findings]
    told = headline(findings).rstrip(".")
    if len(comparisons) > 1:
        return f"{told}, in {len(comparisons)} comparisons of mixup with a baseline."
    before, after = (one.summary(ECE) for one in (comparisons[0].baseline, comparisons[0].mixup))
    if before is None or after is None:
        return f"{told}."
    return f"Mixup takes ECE (15 bins) from {before.mean:.4f} to {after.mean:.4f}; {told[0].lower()}{told[1:]}."


def _leader(groups: Sequence[Group], quantity: Quantity, words: str) -> str:
    """Returns whose mean is the best, and from whose it cannot be told apart; empty if no group has the number."""
    found = summaries_of(groups, quantity)
    if not found:
        return ""
    sign = -1 if quantity.aim == "higher" else 1
    first = min(found, key=lambda group: sign * found[group].mean)
    if len(found) == 1:
        return f"{quantity.label} {formatting.number(found[first].mean)}"
    tied = [short_names(groups)[group] for group in best_of(groups, quantity) if group is not first]
    others = tied[0] if len(tied) == 1 else f"{len(tied)} others"
    more = f", not told apart from {others}" if tied else ""
    return f"{words}: {short_names(groups)[first]} ({formatting.number(found[first].mean)}){more}"


def span(groups: Sequence[Group], quantity: Quantity) -> str:
    """Returns the best and the worst mean of a number and whose they are; empty if no group has it."""
    names = short_names(groups)
    found = {names[group]: one.mean for group, one in summaries_of(groups, quantity).items()}
    if not found:
        return ""
    low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    best, worst = (high, low) if quantity.aim == "higher" else (low, high)
    if formatting.number(found[best]) == formatting.number(found[worst]):
        return f"{quantity.label} is {formatting.number(found[best])}"
    return (
        f"{quantity.label} goes from {formatting.number(found[best])} ({best}) to {formatting.number(found[worst])} "
        f"({worst})"
    )


def _spans(*quantities: Quantity) -> Callable[[Sequence[Group]], str]:
    return lambda groups: _joined(span(groups, quantity) for quantity in quantities)


def _joined(parts: Iterable[str]) -> str:
    told = [part for part in parts if part]
    return "; ".join(told) + "." if told else ""


def _foreign(groups: Sequence[Group]) -> str:
    names = ood_names([run for group in groups for run in group.runs])
    told = [span(groups, Quantity(f"ood/{name}/auroc", f"AUROC against {name}", "higher")) for name in names]
    return " ".join([_joined(told), *below_chance(groups)])


def below_chance(groups: Sequence[Group]) -> list[str]:
    """Returns a sentence for every out-of-distribution set on which AUROC is below chance, with the groups."""
    sentences = []
    for name in ood_names([run for group in groups for run in group.runs]):
        quantity = Quantity(f"ood/{name}/auroc", "AUROC", "higher")
        below = {group: one.mean for group, one in summaries_of(groups, quantity).items() if one.mean < CHANCE}
        if below:
            ends = [reach(group, quantity) for group in below]
            sure = all(one is not None and one[1] < CHANCE for one in ends)
            listed = ", ".join(
                f"{short_names(groups)[group]} ({formatting.number(mean)})" for group, mean in below.items()
            )
            weight = "" if sure else ", as far as these runs tell"
            sentences.append(
                f"Below chance on {name}{weight}: {listed}. There the foreign examples get the higher confidence, so "
                "confidence is no warning."
            )
    return sentences


def _strength(groups: Sequence[Group]) -> str:
    told = []
    for family in alpha_families(groups):
        found = {group.alpha: one.mean for group, one in summaries_of(family, ECE).items()}
        if len(found) > 2:
            best = min(found, key=found.__getitem__)
            told.append(f"ECE (15 bins) is lowest at alpha {best:g}: {formatting.number(found[best])}")
    return _joined(told)


def _mixed(groups: Sequence[Group]) -> str:
    return _joined([span(family, ECE) for family in soft_label_families(groups)])


def _lasting(groups: Sequence[Group]) -> str:
    told = []
    for group in groups:
        by_seed = group.logged("validation_ece_15")
        pairs = [dict(seed) for seed in by_seed.values()]
        shared = sorted(set.intersection(*map(set, pairs))) if pairs else []
        if shared:
            first, last = (sum(seed[epoch] for seed in pairs) / len(pairs) for epoch in (shared[0], shared[-1]))
            told.append(f"{short_names(groups)[group]} {formatting.number(first)} to {formatting.number(last)}")
    more = f", and {len(told) - 4} more" if len(told) > 4 else ""
    return (
        f"ECE on validation examples, at the first epoch and at the last: {'; '.join(told[:4])}{more}." if told else ""
    )


SENTENCES: dict[str, Callable[[Sequence[Group]], str]] = {
    "calibration": _spans(ECE, SCALED),
    "compared": _spans(ACCURACY, Quantity("nll", "NLL", "lower"), Quantity("oe_15", "OE (15 bins)", "lower")),
    "strength": _strength,
    "mixed": _mixed,
    "abstaining": _spans(SUREST),
    "foreign-data": _foreign,
    "lasting": _lasting,
}
"""What the figures of a part of the page show in one sentence, by its anchor."""
