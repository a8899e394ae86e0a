"""What the study says on each of its questions: a sentence, a figure and tables, from the numbers of all networks."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from mixup_jax.data.synthetic import KINDS
from mixup_jax.report import formatting
from studies.settled.figures import Panel, against_gap, against_size
from studies.settled.intervals import FEWEST, Comparison, compare, corrected
from studies.settled.numbers import Regime, Study, differences, mean_of, regimes

ALPHAS = (0.1, 0.2, 0.4, 1.0)
PRIMARY = 0.2
SHARE = {0.1: 0.0585, 0.2: 0.1011, 0.4: 0.1602, 1.0: 0.25}
"""E min(lambda, 1 - lambda), the mean share of the second example, by alpha."""
LEARNT = 0.1
"""The training loss below which rule R2 expects mixup to lower ECE."""
MARGINS = {"ece": 0.005, "nll": 0.01, "refinement": 0.01, "acc": 0.005, "auroc": 0.02}

Page = tuple[str, dict[str, bytes]]
"""The text of a section, its answer first, and the figures it shows, by the names of their files."""
Lowers = Callable[[Regime, float], bool]
"""A rule: whether mixup of some alpha lowers ECE in a regime."""


def compared(study: Study, key: str, alpha: float = PRIMARY) -> dict[Regime, Comparison]:
    """Returns mixup minus ERM of one number in every regime that has it, p values corrected over the regimes."""
    found = {regime: differences(study, regime, alpha, key) for regime in regimes(study)}
    found = {regime: values for regime, values in found.items() if values}
    return dict(zip(found, corrected([compare(list(values.values())) for values in found.values()]), strict=True))


def pooled(study: Study, key: str, alpha: float = PRIMARY) -> Comparison:
    """Returns the comparison of each seed's mean difference over the regimes, of the seeds that have all regimes."""
    found = [differences(study, regime, alpha, key) for regime in regimes(study)]
    found = [values for values in found if values]
    common = set.intersection(*(set(values) for values in found)) if found else set()
    return compare([float(np.mean([values[seed] for values in found])) for seed in sorted(common)])


def gaps_of_erm(study: Study, key: str = "gap") -> dict[Regime, float]:
    """Returns ERM's mean signed gap in every regime that has an ERM run."""
    return {regime: mean_of(study, regime, 0.0, key) for regime in regimes(study) if (regime, 0.0) in study}


def panel(study: Study, key: str, label: str, line: float | None = None, alphas: Sequence[float] = ALPHAS) -> Panel:
    """Returns the changes of one number for every alpha."""
    changes = {(regime, alpha): one for alpha in alphas for regime, one in compared(study, key, alpha).items()}
    return Panel(label, changes, line)


def table(study: Study, columns: Mapping[str, str]) -> str:
    """Returns a Markdown table of mixup (the primary alpha) minus ERM: a row a regime, a column a number.

    Args:
      study: of all networks.
      columns: headings by the key of their number.
    """
    found = {key: compared(study, key) for key in columns}
    gaps = gaps_of_erm(study)
    lines = ["| regime | pairs | gap of ERM | " + " | ".join(columns.values()) + " |"]
    lines.append("| --- | ---: | ---: | " + " | ".join(["---"] * len(columns)) + " |")
    for regime, gap in gaps.items():
        cells = [found[key].get(regime) for key in columns]
        pairs = max((one.n for one in cells if one), default=0)
        row = [str(regime), str(pairs), signed(gap), *(shown(one) for one in cells)]
        lines.append("| " + " | ".join(row) + " |")
    row = ["pooled", "", "", *(shown(pooled(study, key)) for key in columns)]
    return "\n".join([*lines, *(["| " + " | ".join(row) + " |"] if len(gaps) > 1 else [])])


def shown(one: Comparison | None) -> str:
    """Returns a comparison as a cell: mean, interval and verdict."""
    if one is None or one.n == 0:
        return formatting.NONE
    if one.n < FEWEST:
        return f"{signed(one.mean)} (n = {one.n})"
    return f"{signed(one.mean)} [{signed(one.low)}, {signed(one.high)}] {one.verdict}"


def briefly(one: Comparison) -> str:
    """Returns a comparison within a sentence: mean and verdict."""
    return f"{signed(one.mean)} ({one.verdict})"


def signed(value: float) -> str:
    """Returns a number with its sign and three digits."""
    return f"{value:+.3f}".replace("-", formatting.MINUS)


def enough(study: Study) -> list[Regime]:
    """Returns the regimes with at least `FEWEST` pairs at the primary alpha."""
    return [regime for regime, one in compared(study, "ece").items() if one.n >= FEWEST]


def before_temperature(study: Study) -> Page:
    """H1: the sign of the change in ECE follows from the gap of ERM."""
    found, gaps = compared(study, "ece"), gaps_of_erm(study)
    large = [found[regime] for regime in enough(study) if gaps[regime] > 0.04]
    small = [found[regime] for regime in enough(study) if gaps[regime] < 0.01]
    wrong = sum(one.verdict == "higher" for one in large) + sum(one.verdict == "lower" for one in small)
    right = sum(one.verdict == "lower" for one in large), sum(one.verdict == "higher" for one in small)
    answer = (
        f"Where ERM's gap is above 0.04, mixup lowers ECE significantly in {right[0]} of {len(large)} regimes; where "
        f"it is below 0.01, it raises ECE in {right[1]} of {len(small)}; {wrong} go significantly the other way. "
        f"H1 is {'refuted' if wrong else 'supported' if min(right) >= 2 else 'not decided'}."
    )
    figures = {"before.svg": against_gap([panel(study, "ece", "change in ECE by mixup", SHARE[PRIMARY] / 4)], gaps)}
    text = f"{answer} {crossing(study)}\n\n![Change in ECE against the gap of ERM](figures/before.svg)\n\n"
    return text + table(study, {"ece": "ECE", "nll": "NLL", "gap": "signed gap"}), figures


def crossing(study: Study) -> str:
    """Returns a sentence on the gap of ERM at which a straight line through the regimes changes its sign."""
    gaps = gaps_of_erm(study)
    chosen = enough(study)
    changes = [compared(study, "ece")[regime].mean for regime in chosen]
    if len(chosen) < 4 or min(changes, default=0.0) >= 0 or max(changes, default=0.0) <= 0:
        return "There are too few regimes on both sides to say where the line is."
    slope, start = np.polyfit([gaps[regime] for regime in chosen], changes, 1)
    return (
        f"A straight line through the regimes (alpha {PRIMARY}) crosses zero at a gap of {signed(-start / slope)}; "
        f"rule R1 said {signed(SHARE[PRIMARY] / 4)}."
    )


def after_temperature(study: Study) -> Page:
    """H2: after temperature scaling mixup brings no gain worth having."""
    keys = {"ece_t": "ECE", "nll_t": "NLL", "refinement": "refinement"}
    answer = no_gain_sentence(study, keys, "After temperature scaling", "H2")
    panels = [
        panel(study, "ece_t", "change in ECE after temperature"),
        panel(study, "nll_t", "change in NLL after temperature"),
    ]
    figures = {"after.svg": against_gap(panels, gaps_of_erm(study))}
    text = f"{answer}\n\n![Changes after temperature scaling](figures/after.svg)\n\n"
    return text + table(study, {"ece_t": "ECE, after", "nll_t": "NLL, after", "refinement": "refinement"}), figures


def no_gain_sentence(study: Study, keys: Mapping[str, str], when: str, hypothesis: str) -> str:
    """Returns what the pooled comparisons say of a hypothesis that there is no gain worth having."""
    found = {key: pooled(study, key) for key in keys}
    if any(one.n < FEWEST for one in found.values()):
        return f"Fewer than {FEWEST} seeds have all regimes that were begun: {hypothesis} is not decided."
    margins = {key: MARGINS[key.removeprefix("shift_").removesuffix("_t")] for key in keys}
    parts = [f"{label} {shown(found[key])}" for key, label in keys.items()]
    none = [keys[key] for key, one in found.items() if one.no_gain(margins[key])]
    gain = [keys[key] for key, one in found.items() if one.verdict == "lower" and one.mean < -margins[key]]
    verdict = "refuted" if gain else "supported" if len(none) == len(keys) else "not decided"
    return (
        f"{when}, mixup minus ERM pooled over the regimes: {'; '.join(parts)}. A gain worth having is excluded for "
        f"{' and '.join(none) or 'none of them'}. {hypothesis} is {verdict}."
    )


def out_of_distribution(study: Study) -> Page:
    """H3: less confident on foreign inputs, but with no common sign of AUROC."""
    keys = {"conf/mnist": "confidence on digits", "auroc/mnist": "AUROC, digits"}
    keys |= {"conf/gaussian_noise": "confidence on noise", "auroc/gaussian_noise": "AUROC, noise"}
    images = {key: value for key, value in study.items() if key[0].task == "images"}
    parts = []
    for key in ("auroc/mnist", "auroc/gaussian_noise"):
        signs = [one.verdict for one in compared(images, key).values()]
        parts.append(
            f"{keys[key]}: higher in {signs.count('higher')} and lower in {signs.count('lower')} of {len(signs)}"
        )
    both = [pooled(images, key) for key in ("auroc/mnist", "auroc/gaussian_noise")]
    decided = [one for one in both if one.verdict in ("higher", "lower")]
    verdict = "not decided" if both[0].n < FEWEST else "refuted" if decided else "supported"
    confidence = [shown(pooled(images, key)) for key in ("conf/mnist", "conf/gaussian_noise")]
    changes = [one.mean for key in ("conf/mnist", "conf/gaussian_noise") for one in compared(images, key).values()]
    answer = (
        f"Confidence changes by {confidence[0]} on digits and {confidence[1]} on noise, pooled. {'; '.join(parts)} "
        f"regimes; pooled {' and '.join(map(shown, both))}. By its test, the pooled AUROC, H3 is {verdict}; it also "
        f"says that confidence is lower everywhere, and it is in {sum(change < 0 for change in changes)} of "
        f"{len(changes)} cases."
    )
    figures = {
        "ood.svg": against_gap(
            [
                panel(images, "auroc/mnist", "change in AUROC, digits"),
                panel(images, "auroc/gaussian_noise", "change in AUROC, noise"),
            ],
            gaps_of_erm(images),
        )
    }
    texts = {key: value for key, value in study.items() if key[0].task == "texts"}
    foreign = {f"auroc/{name}": f"AUROC, {name}" for name in ("amazon_snippets", "nyt_snippets", "random_tokens")}
    text = f"{answer}\n\n![Change in AUROC](figures/ood.svg)\n\n{table(images, keys)}\n"
    return text + (f"\n{table(texts, foreign)}" if texts else ""), figures


def under_shift(study: Study) -> Page:
    """H4: on corrupted images mixup helps before temperature, and no more after the temperature of clean ones."""
    images = {key: value for key, value in study.items() if key[0].task == "images"}
    found, gaps = compared(images, "shift_ece"), gaps_of_erm(images, "shift_gap")
    lower = sum(one.verdict == "lower" for one in found.values())
    higher = sum(one.verdict == "higher" for one in found.values())
    over = sum(gap > 0 for gap in gaps.values())
    answer = (
        f"On corrupted images ERM is over-confident in {over} of {len(gaps)} regimes, and mixup lowers ECE "
        f"significantly in {lower} and raises it in {higher} of {len(found)}. "
        + no_gain_sentence(
            images,
            {"shift_ece_t": "ECE", "shift_nll_t": "NLL"},
            "With the temperature of clean images",
            "The second half of H4",
        )
    )
    panels = [
        panel(images, "shift_ece", "change in ECE, corrupted"),
        panel(images, "shift_ece_t", "the same, clean temperature"),
    ]
    figures = {"shift.svg": against_gap(panels, gaps)}
    keys = {"shift_ece": "ECE", "shift_ece_t": "ECE, after", "shift_nll_t": "NLL, after", "shift_acc": "accuracy"}
    text = f"{answer}\n\n![Changes on corrupted images](figures/shift.svg)\n\n"
    return f"{text}{table(images, keys)}\n\n{kinds_table(images)}", figures


def kinds_table(study: Study) -> str:
    """Returns the pooled comparisons of each kind of corruption, which describe and are not corrected."""
    lines = ["| kind, pooled | accuracy | NLL | NLL, after |", "| --- | --- | --- | --- |"]
    for kind in KINDS:
        lines.append(
            f"| {kind} | " + " | ".join(shown(pooled(study, f"{kind}_{key}")) for key in ("acc", "nll", "nll_t")) + " |"
        )
    return "\n".join(lines)


def accuracy(study: Study) -> Page:
    """H5: the gain in accuracy falls with the number of training examples."""
    images = {key: value for key, value in study.items() if key[0].task == "images"}
    plain = {regime: one for regime, one in compared(images, "acc").items() if regime.plan == "plain"}
    parts = [f"{signed(one.mean)} at {regime.size:,}" for regime, one in plain.items()]
    few = [one for regime, one in plain.items() if regime.size <= 2500]
    many = [one for regime, one in plain.items() if regime.size >= 55_000]
    if any(one.n < FEWEST for one in [*few, *many]) or len(few) < 2 or not many:
        verdict = "not decided"
    elif all(one.verdict == "higher" for one in few) and many[0].no_gain(MARGINS["acc"], lower_is_better=False):
        verdict = "supported"
    else:
        verdict = (
            "refuted" if any(one.verdict == "lower" for one in few) or many[0].verdict == "higher" else "not decided"
        )
    answer = f"Without augmentation accuracy changes by {', '.join(parts)} images. H5 is {verdict}."
    panels = [panel(study, "acc", "change in accuracy"), panel(study, "refinement", "change in refinement")]
    text = f"{answer}\n\n![Changes against the training set's size](figures/size.svg)\n\n"
    return text + table(study, {"acc": "accuracy", "refinement": "refinement"}), {"size.svg": against_size(panels)}


def dose(study: Study) -> Page:
    """H6: confidence falls by half of the mean share of the second example."""
    lines = ["| alpha | expected fall | mean over the regimes | from .. to |", "| ---: | ---: | ---: | --- |"]
    held, ratios = [], []
    for alpha in ALPHAS:
        falls = [one.mean for one in compared(study, "gap", alpha).values()]
        if not falls:
            continue
        expected = -SHARE[alpha] / 2
        ratios.append(float(np.mean(falls) / expected))
        held.append(abs(ratios[-1] - 1) <= 0.3)
        cells = [signed(expected), signed(float(np.mean(falls))), f"{signed(min(falls))} .. {signed(max(falls))}"]
        lines.append(f"| {alpha:g} | " + " | ".join(cells) + " |")
    gaps, falls_at = gaps_of_erm(study), compared(study, "gap")
    rank = stats.spearmanr([gaps[regime] for regime in falls_at], [one.mean for one in falls_at.values()]).statistic
    held.append(not abs(rank) > 0.8)
    ready = len(enough(study)) >= 4
    verdict = "not decided" if not ready else "supported" if all(held) else "refuted"
    answer = (
        f"The mean fall, from the least alpha to the largest, is {', '.join(f'{ratio:.2f}' for ratio in ratios)} of "
        f"half the mean share of the second example; its rank correlation with ERM's gap at alpha {PRIMARY} is "
        f"{signed(float(rank))}. H6 is {verdict}."
    )
    return f"{answer}\n\n" + "\n".join(lines), {}


def rules(study: Study) -> Page:
    """How often the two rules, and the constant answers, have the sign of the change in ECE."""
    losses, first = gaps_of_erm(study, "train_loss"), rule_of_gap(study)
    cases = [(regime, alpha, one) for alpha in ALPHAS for regime, one in compared(study, "ece", alpha).items()]
    primary = [case for case in cases if case[1] == PRIMARY]
    second: Lowers = lambda regime, alpha: losses[regime] < LEARNT  # noqa: E731
    lines = ["| rule | right, of all | right, of the significant |", "| --- | ---: | ---: |"]
    answers = []
    for name, chosen, rule in (("R1", cases, first), (f"R1, alpha {PRIMARY}", primary, first), ("R2", primary, second)):
        constants = {"always lowers": lambda regime, alpha: True, "always raises": lambda regime, alpha: False}
        scores = [scored(chosen, one) for one in (rule, *constants.values())]
        for label, (right, all_, sure, all_sure) in zip((name, *constants), scores, strict=True):
            lines.append(f"| {label} | {right} of {all_} | {sure} of {all_sure} |")
        better = scores[0][0] > max(right for right, *_ in scores[1:])
        often = "more often" if better else "no more often"
        answers.append(f"{name} is right in {scores[0][0]} of {scores[0][1]}, {often} than a constant")
    return f"{'; '.join(answers)}.\n\n" + "\n".join(lines), {}


def rule_of_gap(study: Study) -> Lowers:
    """Returns rule R1: mixup lowers ECE if ERM's gap on held-out examples is at least half of the expected fall."""
    held_out = gaps_of_erm(study, "val_gap")
    return lambda regime, alpha: held_out[regime] >= SHARE[alpha] / 4


def scored(cases: Sequence[tuple[Regime, float, Comparison]], lowers: Lowers) -> tuple[int, int, int, int]:
    """Returns how many signs of the change in ECE a rule has right, of how many; and the same of the significant."""
    right = [(one.mean < 0) == lowers(regime, alpha) for regime, alpha, one in cases]
    sure = [hit for hit, (_, _, one) in zip(right, cases, strict=True) if one.verdict in ("lower", "higher")]
    return sum(right), len(right), sum(sure), len(sure)


SECTIONS: dict[str, Callable[[Study], Page]] = {
    "Before a temperature: does mixup lower ECE?": before_temperature,
    "After a temperature: is there a gain left?": after_temperature,
    "Out of distribution: does it tell foreign inputs apart?": out_of_distribution,
    "Under shift: does it help on corrupted images?": under_shift,
    "Accuracy: does the gain depend on the size of the training set?": accuracy,
    "Dose: by how much does confidence fall?": dose,
    "Can it be told in advance? Two rules stated before the runs": rules,
}


def later_blocks(study: Study, later: Study) -> str:
    """Returns what later blocks say beside the regimes of the same size in the grid itself, and a table of them."""
    gaps, before = gaps_of_erm(study), compared(study, "ece")
    later_gaps, changes, scaled = gaps_of_erm(later), compared(later, "ece"), compared(later, "nll_t")
    sentences = []
    for regime in enough(later):
        same = Regime("images", "plain", regime.size)
        if same in before:
            sentences.append(
                f"With {regime.plan} at {regime.size:,} images, ERM's gap is {signed(later_gaps[regime])} instead of "
                f"{signed(gaps[same])}, and mixup changes ECE by {briefly(changes[regime])} instead of "
                f"{briefly(before[same])}, and NLL after a temperature by {briefly(scaled[regime])}."
            )
    right, of, *_ = scored([(regime, PRIMARY, changes[regime]) for regime in enough(later)], rule_of_gap(later))
    sentences.append(f"R1 has the sign right in {right} of {of} of these regimes.")
    keys = {"ece": "ECE", "ece_t": "ECE, after", "nll_t": "NLL, after", "acc": "accuracy"}
    return f"{' '.join(sentences)}\n\n{table(later, keys)}"
