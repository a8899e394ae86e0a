"""The parts of the page with figures and small tables: one question each, in their order."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Block:
    """Figures of one kind within a part of the page.

    Attributes:
      anchor: its id, which rows of the table of figures name.
      title: its heading where it is folded; the first block of a part that has figures is not.
      layout: small figures side by side, those of a run together ("pairs"), those of middle width ("wide"), or each
        across the whole width ("rows").
      read: how to read its figures.
    """

    anchor: str
    title: str
    read: str
    layout: Literal["figures", "pairs", "wide", "rows"] = "figures"


@dataclass(frozen=True)
class PageSection:
    """A part of the page; it is left out if it has no figures and no table.

    Attributes:
      anchor: its id, by which its sentence and its table are found.
      title: the question that it answers: its heading, and its name in the navigation.
      blocks: its figures; all but the first are folded.
      read: how to read its table, if it has no figures.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...] = ()
    read: str = ""


SECTIONS = (
    PageSection(
        "differences",
        "Do they really differ?",
        read="The same test examples are given to both networks, so what is hard for both cancels. An interval that "
        "excludes 0 says that the difference is not the luck of these test examples.",
    ),
    PageSection(
        "calibration",
        "Is its confidence right?",
        (
            Block(
                "reliability",
                "Reliability diagrams",
                "Confidence is right where accuracy equals it: on the dashed diagonal. A bar that stays below is "
                "over-confident, one that rises above under-confident. Bins of few examples are faint, since chance "
                "decides them; the panel below says how many each has. Of each group one seed is shown, the lowest "
                "that is switched on, unless all are chosen.",
                "pairs",
            ),
            Block(
                "scatter",
                "Bin by bin, beside the nearest baseline",
                "The paper's scatter plots: a point for each of 15 bins, of an area as its share of the examples, all "
                "seeds together. What counts is how far the large points lie from the diagonal.",
            ),
        ),
    ),
    PageSection(
        "compared",
        "Which method is best?",
        (
            Block(
                "methods",
                "Calibration errors",
                "Bars: the mean over the seeds, with a line of plus and minus one sample standard deviation; circles: "
                "single seeds. Lower is better.",
                "wide",
            ),
            Block(
                "seeds",
                "Every seed: accuracy and AUROC",
                "Circles: single seeds. Stroke: their mean, in a band of plus and minus one sample standard "
                "deviation. Where bands of two groups overlap, other seeds may well turn their order around.",
            ),
        ),
    ),
    PageSection(
        "strength",
        "How strong should mixup be?",
        (
            Block(
                "alpha",
                "Strength of mixup",
                "Runs that differ in mixup\N{RIGHT SINGLE QUOTATION MARK}s alpha alone. Diamonds: the mean over the "
                "seeds, in a band of plus and minus one sample standard deviation; circles beside them: single seeds.",
            ),
        ),
    ),
    PageSection(
        "mixed",
        "Inputs, labels, or both?",
        (
            Block(
                "soft-labels",
                "Mixing inputs, labels, or both",
                "The paper's section on soft labels: runs that differ only in what is mixed. If mixing the inputs "
                "alone, under hard labels, leaves the errors of the baseline, and mixing the labels alone lowers them "
                "as full mixup does, then it is the soft labels that calibrate. (Mixing labels alone is not in the "
                "paper.)",
                "wide",
            ),
        ),
    ),
    PageSection(
        "abstaining",
        "What if it may abstain?",
        (
            Block(
                "risk",
                "Risk and coverage",
                "If a network answers only the examples it is surest of, how often is it wrong? The lower the line "
                "the better; at the right, where every example is answered, it ends at 1 \N{MINUS SIGN} accuracy. Of "
                "several seeds the mean is drawn, over a band from the lowest to the highest of them.",
                "wide",
            ),
        ),
    ),
    PageSection(
        "foreign-data",
        "Does it notice foreign data?",
        (
            Block(
                "confidence",
                "Confidence in and out of distribution",
                "How sure a network is of data like its training data (filled), and of data that belong to none of its "
                "classes (lines). What counts is not how far left the lines lie, but how far to the left of the filled "
                "area: a network that is unsure of everything tells nothing apart. AUROC is the probability that a "
                "foreign example has a lower winning score than one of the test set; 0.5 is chance.",
            ),
            Block(
                "foreign",
                "All methods on one set",
                "The paper's section on out-of-distribution and random data: how often a network is how sure of "
                "examples that belong to none of its classes. The further left the better, if its own test examples "
                "stay where they are.",
                "wide",
            ),
        ),
    ),
    PageSection(
        "lasting",
        "Does calibration last?",
        (
            Block(
                "training",
                "Over the epochs",
                "The paper's question of extended training. Lines: the mean of the seeds, in a band from the lowest "
                "to the highest; the loss is smoothed, over its faint curve. A confidence and ECE that go on rising "
                "while the loss goes to zero are over-fitting; the loss is that of the method itself (of mixed or "
                "smoothed labels), so it does not compare across methods.",
            ),
            Block(
                "epochs",
                "Confidence and accuracy, epoch by epoch",
                "The paper's Figure 1: a network leaves the diagonal downwards, into over-confidence, as it goes on "
                "training; one trained with mixup should stay on it. Colour: the share of the validation examples by "
                "confidence and by the accuracy of the examples of that confidence (a single example has none), "
                "spread as widely as their number leaves that accuracy uncertain. Cross, and the numbers above: mean "
                "confidence and accuracy.",
                "rows",
            ),
        ),
    ),
    PageSection(
        "mistakes",
        "Where is it surely wrong?",
        (
            Block(
                "pictures",
                "The surest mistakes, and the foreign inputs it is surest of",
                "Below each picture: the class that the network takes it for, its confidence as trained, and its "
                "label. Look for wrong labels, classes that no picture tells apart, and what foreign inputs have in "
                "common with a class. Of each group the first seed is shown.",
                "wide",
            ),
        ),
    ),
    PageSection(
        "text",
        "And on text?",
        read="The paper's experiments on text: sentences, mixed where their words have become vectors. Lower ECE and "
        "OE are better; of a small test set read them beside the noise floor, the ECE that a perfectly calibrated "
        "network of the same confidences would show.",
    ),
)
