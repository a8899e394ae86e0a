"""The parts of the page with figures and small tables, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PageSection:
    """A part of the page; it is left out if it has no figures and no table.

    Attributes:
      anchor: its id, which rows of the table of figures name.
      short: its name in the navigation.
      title: its heading.
      lead: what is shown, and how to read it.
      of_seeds: added to the lead if a group has several seeds.
      layout: of its figures: small ones side by side, those of a run together ("pairs"), one of middle width
        ("wide"), or each across the whole width ("rows").
    """

    anchor: str
    short: str
    title: str
    lead: str
    of_seeds: str = ""
    layout: Literal["figures", "pairs", "wide", "rows"] = "figures"


SECTIONS = (
    PageSection(
        "reliability",
        "Reliability",
        "Reliability",
        "A network is calibrated where accuracy equals confidence, on the dashed diagonal. Each network is shown as "
        "trained, and after one temperature was fitted on held-out data.",
        " Of each group one seed is shown, the lowest that is switched on, unless all are chosen at the top of the "
        "page.",
        "pairs",
    ),
    PageSection(
        "confidence",
        "Confidence",
        "Confidence in and out of distribution",
        "How sure a network is of data like its training data (filled), and of data that belong to none of its classes "
        "(lines). What counts is not how far left the lines lie, but how far to the left of the filled area: a network "
        "that is unsure of everything tells nothing apart.",
    ),
    PageSection(
        "risk",
        "Risk and coverage",
        "Risk and coverage",
        "If a network answers only the examples it is surest of, how often is it wrong? The lower the line the better; "
        "at the right, where every example is answered, it ends at 1 \N{MINUS SIGN} accuracy.",
        " Of several seeds the mean is drawn, over a band from the lowest to the highest of them.",
        "wide",
    ),
    PageSection(
        "methods",
        "Methods",
        "Methods side by side",
        "Bars: the mean over the seeds, with a line of plus and minus one sample standard deviation; circles: single "
        "seeds. Lower is better.",
    ),
    PageSection(
        "alpha",
        "Strength of mixup",
        "Strength of mixup",
        "Runs that differ in mixup\N{RIGHT SINGLE QUOTATION MARK}s alpha alone. Diamonds: the mean over the seeds, "
        "in a band of plus and minus one sample standard deviation; circles beside them: single seeds.",
    ),
    PageSection(
        "seeds",
        "Spread over seeds",
        "Spread over seeds",
        "Circles: single seeds. Stroke: their mean, in a band of plus and minus one sample standard deviation. Where "
        "bands of two groups overlap, other seeds may well turn their order around.",
    ),
    PageSection(
        "epochs",
        "Training, epoch by epoch",
        "Confidence and accuracy while training",
        "The paper's Figure 1: a network leaves the diagonal downwards, into over-confidence, as it goes on "
        "training; one trained with mixup should stay on it. Colour: the share of the validation examples by "
        "confidence and by the accuracy of the examples of that confidence (a single example has none), spread as "
        "widely as their number leaves that accuracy uncertain. Cross, and the numbers above: mean confidence and "
        "accuracy.",
        layout="rows",
    ),
    PageSection(
        "scatter",
        "Bins as points",
        "Accuracy against confidence, bin by bin",
        "The paper's scatter plots: a point for each of 15 bins of the test examples, of an area as the bin's share "
        "of them, all seeds together. What counts is how far the large points lie from the diagonal: below it the "
        "network is over-confident, above it under-confident.",
    ),
    PageSection(
        "soft-labels",
        "Soft labels",
        "Mixing inputs, labels, or both",
        "The paper's section on soft labels: runs that differ only in what is mixed. If mixing the inputs alone, "
        "under hard labels, leaves the errors of the baseline, and mixing the labels alone lowers them as full mixup"
        " does, then it is the soft labels that calibrate. (Mixing labels alone is not in the paper.)",
    ),
    PageSection(
        "foreign",
        "Foreign data and noise",
        "Winning scores on foreign data and noise",
        "The paper's section on out-of-distribution and random data: how often a network is how sure of examples "
        "that belong to none of its classes. The further left the better, if its own test examples stay where they "
        "are, which the AUROC below the figures says: the probability that a foreign example has a lower winning "
        "score than one of the test set.",
    ),
    PageSection(
        "pictures",
        "Surest mistakes",
        "The surest mistakes, and the foreign inputs it is surest of",
        "Below each picture: the class that the network takes it for, its confidence as trained, and its label. Look "
        "for wrong labels, classes that no picture tells apart, and what foreign inputs have in common with a class.",
        " Of each group the first seed is shown.",
        "wide",
    ),
    PageSection(
        "text",
        "Text",
        "Text",
        "The paper's experiments on text: sentences, mixed where their words have become vectors. Lower ECE and OE "
        "are better; of a small test set read them beside the noise floor, the ECE that a perfectly calibrated "
        "network of the same confidences would show.",
    ),
    PageSection(
        "training",
        "Extended training",
        "Confidence, calibration and loss over the epochs",
        "The paper's question of extended training: whether calibration lasts. Lines: the mean of the seeds, in a "
        "band from the lowest to the highest. A confidence and ECE that go on rising while the loss goes to zero are"
        " over-fitting; the loss is that of the method itself (of mixed or smoothed labels), so it does not compare "
        "across methods.",
    ),
)
