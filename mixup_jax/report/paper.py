"""The paper's figures and tables, each where the runs allow it: a section has a lead, figures and perhaps a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixup_jax.report import wording
from mixup_jax.report.choices import Choices
from mixup_jax.report.courses import course_pictures, density_pictures
from mixup_jax.report.groups import Group, kind
from mixup_jax.report.held_out import scatter_pictures, score_pictures
from mixup_jax.report.overview import bars_picture, settings_but, summaries_of
from mixup_jax.report.picture import Picture
from mixup_jax.report.published import TEXT, printed_auroc
from mixup_jax.report.quantities import Quantity, ood_names
from mixup_jax.report.sheet import Sheet, csv_bytes

MIXING = ("method.mixup_alpha", "method.mix_inputs", "method.mix_labels")
SOFT_LABELS = (Quantity("ece_15", "ECE, 15 bins"), Quantity("oe_15", "OE, 15 bins"))
TEXT_COLUMNS = (
    Quantity("accuracy", "accuracy"),
    Quantity("ece_15", "ECE, 15 bins"),
    Quantity("ece_100", "ECE, 100 bins"),
    Quantity("oe_15", "OE, 15 bins"),
    Quantity("oe_100", "OE, 100 bins"),
    Quantity("noise_floor/ece_100/mean", "noise floor of ECE, 100 bins"),
    Quantity("after_temperature/ece_15", "ECE, 15 bins, after temperature scaling"),
)
NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Shown:
    """A figure of a section: what stands above it, and the tokens of what it is about."""

    heading: str
    below: str
    tokens: str
    picture: Picture


@dataclass(frozen=True)
class PaperSection:
    """A part of the page.

    Attributes:
      anchor: its id.
      short: its name in the navigation.
      title: its heading.
      lead: what is shown, where the paper has it, and what is read off.
      shown: its figures.
      sheet: its table, or None.
      wide: whether a figure takes the whole width.
    """

    anchor: str
    short: str
    title: str
    lead: str
    shown: tuple[Shown, ...] = ()
    sheet: Sheet | None = None
    wide: bool = False


def paper_sections(groups: Sequence[Group], choices: Choices) -> list[PaperSection]:
    """Returns the sections that the runs allow, in the order of the paper."""
    sections = [
        _epochs(groups, choices),
        _scatter(groups, choices),
        _soft_labels(groups, choices),
        _foreign(groups, choices),
        _text(groups, choices),
        _training(groups, choices),
    ]
    return [section for section in sections if section.shown or section.sheet]


def _epochs(groups: Sequence[Group], choices: Choices) -> PaperSection:
    return PaperSection(
        "epochs",
        "Training, epoch by epoch",
        "Confidence and accuracy while training",
        "The paper's Figure 1: a network leaves the diagonal downwards, into over-confidence, as it goes on "
        "training; one trained with mixup should stay on it. Colour: the share of the validation examples by "
        "confidence and by the accuracy of the examples of that confidence (a single example has none), spread as "
        "widely as their number leaves that accuracy uncertain. Cross, and the numbers above: mean confidence and "
        "accuracy.",
        tuple(
            Shown(group.name, wording.count_seeds(len(group.runs)), choices.of_group(group), picture)
            for group, picture in density_pictures(groups)
        ),
        wide=True,
    )


def _scatter(groups: Sequence[Group], choices: Choices) -> PaperSection:
    return PaperSection(
        "scatter",
        "Bins as points",
        "Accuracy against confidence, bin by bin",
        "The paper's scatter plots: a point for each of 15 bins of the test examples, of an area as the bin's share "
        "of them, all seeds together. What counts is how far the large points lie from the diagonal: below it the "
        "network is over-confident, above it under-confident.",
        tuple(Shown(group.name, "", choices.of_group(group), picture) for group, picture in scatter_pictures(groups)),
    )


def _soft_labels(groups: Sequence[Group], choices: Choices) -> PaperSection:
    taken: set[str] = set()
    shown = []
    for family in soft_label_families(groups):
        found = {quantity: summaries_of(family, quantity) for quantity in SOFT_LABELS}
        if all(found.values()):
            title, name = "ECE and OE by what is mixed", wording.slug("soft labels", taken)
            picture = bars_picture(title, "calibration error, 15 bins", found, choices, name=name)
            shown.append(Shown("ECE and OE", "15 bins, lower is better", "", picture))
    return PaperSection(
        "soft-labels",
        "Soft labels",
        "Mixing inputs, labels, or both",
        "The paper's section on soft labels: runs that differ only in what is mixed. If mixing the inputs alone, "
        "under hard labels, leaves the errors of the baseline, and mixing the labels alone lowers them as full mixup"
        " does, then it is the soft labels that calibrate. (Mixing labels alone is not in the paper.)",
        tuple(shown),
    )


def soft_label_families(groups: Sequence[Group]) -> list[list[Group]]:
    """Returns the groups that differ only in what is mixed, one list for each set of other settings.

    Each holds inputs mixed alone and full mixup or no mixing at all; of those that mix only such of one alpha.
    """
    by_rest: dict[str, list[Group]] = {}
    for group in groups:
        by_rest.setdefault(settings_but(group, *MIXING), []).append(group)
    families = []
    for members in by_rest.values():
        for alpha in dict.fromkeys(_alpha(group) for group in members if _mixed(group) == (True, False)):
            family = sorted((group for group in members if _alpha(group) in (0, alpha)), key=_mixed)
            if {_mixed(group) for group in family} & {(True, True), (False, False)}:
                families.append(family)
    return families


def _alpha(group: Group) -> float:
    alpha = group.first.setting("method", "mixup_alpha", default=0)
    return float(alpha) if isinstance(alpha, int | float) else 0.0


def _mixed(group: Group) -> tuple[bool, bool]:
    """Returns whether inputs and labels are mixed."""
    if not _alpha(group):
        return False, False
    inputs, labels = (group.first.setting("method", key, default=True) for key in ("mix_inputs", "mix_labels"))
    return bool(inputs), bool(labels)


def _foreign(groups: Sequence[Group], choices: Choices) -> PaperSection:
    return PaperSection(
        "foreign",
        "Foreign data and noise",
        "Winning scores on foreign data and noise",
        "The paper's section on out-of-distribution and random data: how often a network is how sure of examples "
        "that belong to none of its classes. The further left the better, if its own test examples stay where they "
        "are, which the AUROC below the figures says: the probability that a foreign example has a lower winning "
        "score than one of the test set.",
        tuple(
            Shown(
                name,
                "mean of the seeds" if any(len(group.runs) > 1 for group in groups) else "",
                choices.of_ood(name),
                one,
            )
            for name, one in score_pictures(groups, choices)
        ),
        _auroc_sheet(groups, choices),
    )


def _auroc_sheet(groups: Sequence[Group], choices: Choices) -> Sheet | None:
    rows, data = [], []
    for ood in ood_names([run for group in groups for run in group.runs]):
        for group in groups:
            for part, words in (("", ""), ("after_temperature/", ", after temperature scaling")):
                summary = group.summary(Quantity(f"ood/{ood}/{part}auroc", ""))
                if summary is None or (part and kind(group.first) != "baseline"):
                    continue
                printed = None if part else printed_auroc(group.first, ood)
                paper = NOT_COMPARABLE if printed is None else wording.number(printed)
                pair = f"{group.first.test_name.removesuffix('/test')} → {ood}"
                tokens = f"{choices.of_group(group)} {choices.of_ood(ood)}"
                rows.append((tokens, (group.name + words, pair, wording.spread(summary), str(summary.n_seeds), paper)))
                data.append((group.name + words, pair, summary.mean, summary.std, summary.n_seeds, printed))
    if not rows:
        return None
    return Sheet(
        "auroc-beside-the-paper",
        "AUROC by the winning score, and the paper's: of one VGG-16 each, without spread, trained on STL-10. Its "
        "numbers stand where a run has the same two data sets and the same method.",
        ("Method", "Data sets", "AUROC", "Seeds", "The paper"),
        tuple(rows),
        csv_bytes(("method", "data_sets", "auroc_mean", "auroc_std", "n_seeds", "paper"), data),
    )


def _text(groups: Sequence[Group], choices: Choices) -> PaperSection:
    found = [group for group in groups if group.first.setting("data", "name") in TEXT]
    rows, data = [], []
    for group in found:
        summaries = [group.summary(quantity) for quantity in TEXT_COLUMNS]
        named = (group.name, TEXT[str(group.first.setting("data", "name"))], str(len(group.runs)))
        rows.append((choices.of_group(group), (*named, *map(wording.spread, summaries))))
        numbers = [one for summary in summaries for one in ((summary.mean, summary.std) if summary else (None, None))]
        data.append((*named, *numbers))
    header = ("Method", "Data set", "Seeds", *(quantity.label for quantity in TEXT_COLUMNS))
    columns = [f"{quantity.key}_{part}" for quantity in TEXT_COLUMNS for part in ("mean", "std")]
    sheet = Sheet(
        "text",
        "Test sets of text; mean ± sample standard deviation over the seeds.",
        header,
        tuple(rows),
        csv_bytes(("method", "data_set", "n_seeds", *columns), data),
    )
    return PaperSection(
        "text",
        "Text",
        "Text",
        "The paper's experiments on text: sentences, mixed where their words have become vectors. Lower ECE and OE "
        "are better; of a small test set read them beside the noise floor, the ECE that a perfectly calibrated "
        "network of the same confidences would show.",
        sheet=sheet if rows else None,
    )


def _training(groups: Sequence[Group], choices: Choices) -> PaperSection:
    return PaperSection(
        "training",
        "Extended training",
        "Confidence, calibration and loss over the epochs",
        "The paper's question of extended training: whether calibration lasts. Lines: the mean of the seeds, in a "
        "band from the lowest to the highest. A confidence and ECE that go on rising while the loss goes to zero are"
        " over-fitting; the loss is that of the method itself (of mixed or smoothed labels), so it does not compare "
        "across methods.",
        tuple(Shown(label, "", "", picture) for label, picture in course_pictures(groups, choices)),
    )
