"""Figures of training as it goes on, from the records of epochs and from metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from mixup_jax import figures
from mixup_jax.figures.epochs import Outcomes, common_course, density_rows, mean_point
from mixup_jax.metrics.examined import examine
from mixup_jax.report import wording
from mixup_jax.report.choices import Choices
from mixup_jax.report.groups import Group
from mixup_jax.report.picture import Lines, Picture, draw
from mixup_jax.report.pictures import logged
from mixup_jax.report.sheet import csv_bytes

CONFIDENCE = "validation_confidence"
LOGGED = {
    CONFIDENCE: "mean confidence, validation",
    "validation_ece_15": "ECE, 15 bins, validation",
    "validation_oe_15": "OE, 15 bins, validation",
    "train_loss": "training loss",
}
"""What is drawn over the epochs, by its name in metrics.jsonl."""
DENSITY_COLUMNS = ("epoch", "confidence_low", "confidence_high", "accuracy_low", "accuracy_high", "share")


def density_pictures(groups: Sequence[Group]) -> list[tuple[Group, Picture]]:
    """Returns the joint density of confidence and accuracy over the epochs, of every group that recorded epochs."""
    taken: set[str] = set()
    pictures = []
    for group in groups:
        by_epoch = outcomes_by_epoch(group)
        if by_epoch:
            pictures.append((group, _density(group, by_epoch, wording.slug(f"{group.name} epochs", taken))))
    return pictures


def outcomes_by_epoch(group: Group) -> dict[int, Outcomes]:
    """Returns confidence and correctness of the validation examples, by epoch, of the seeds that recorded epochs.

    Of several such seeds, the epochs are those that all of them recorded.
    """
    recorded = [run.epochs for run in group.runs if run.epochs]
    shared = set.intersection(*map(set, recorded)) if recorded else set()
    found: dict[int, Outcomes] = {}
    for epoch in sorted(shared):
        records = [epochs[epoch] for epochs in recorded]
        examples = [examine(record.logits, record.labels).only_labelled() for record in records]
        found[epoch] = [(one.confidence, one.correct) for one in examples]
    return found


def _density(group: Group, by_epoch: dict[int, Outcomes], name: str) -> Picture:
    readings: dict[str, Lines] = {}
    words = []
    for index, (epoch, seeds) in enumerate(by_epoch.items()):
        confidence, accuracy = mean_point(seeds)
        text = f"mean confidence {confidence:.4f}, accuracy {accuracy:.4f}"
        readings[f"panel-{index}.mean"] = [(f"epoch {epoch}", ""), (text, "")]
        words.append(f"epoch {epoch}: {text}")
    examples = f"{len(next(iter(by_epoch.values()))[0][0]):,} validation examples"
    alt = f"Joint density of confidence and accuracy of {group.name} on {examples}. {'; '.join(words)}."
    drawing = figures.density_over_epochs(by_epoch)
    return draw("epochs", name, drawing, alt, readings=readings, csv=csv_bytes(DENSITY_COLUMNS, density_rows(by_epoch)))


def course_pictures(groups: Sequence[Group], choices: Choices) -> list[tuple[str, Picture]]:
    """Returns what was logged while training, over the epochs, with what each figure shows.

    A number is drawn where a group has it at two epochs or more; none where nothing but the loss was logged.
    """
    pictures = []
    for key, label in LOGGED.items():
        found = {group: _courses(group, key) for group in groups}
        drawn = {group: seeds for group, seeds in found.items() if seeds}
        if drawn:
            pictures.append((label, _course(key, label, drawn, choices)))
    return pictures if len(pictures) > 1 else []


def _courses(group: Group, key: str) -> list[list[tuple[float, float]]]:
    """Returns what every seed logged, or nothing where they do not share two epochs."""
    seeds = [logged(run.progress, key) for run in group.runs]
    shared = set.intersection(*({epoch for epoch, _ in seed} for seed in seeds))
    return seeds if len(shared) > 1 else []


def _course(key: str, label: str, drawn: dict[Group, list[list[tuple[float, float]]]], choices: Choices) -> Picture:
    rows: list[tuple[str | float | None, ...]] = []
    words = []
    for group, seeds in drawn.items():
        epochs, numbers = common_course(seeds, group.name)
        for run, course in zip(group.runs, seeds, strict=True):
            rows += [(group.name, str(run.setting("seed")), epoch, value) for epoch, value in course]
        mean = numbers.mean(axis=0)
        words.append(f"{group.name}: {mean[0]:.4f} at epoch {epochs[0]:g}, {mean[-1]:.4f} at epoch {epochs[-1]:g}")
    values = {group.name: seeds for group, seeds in drawn.items()}
    axes = figures.over_epochs(values, label=label, from_zero=key != CONFIDENCE)
    tokens = {f"curve-{index}": choices.of_group(group) for index, group in enumerate(drawn)}
    alt = f"{label} over the epochs, mean of the seeds. {'; '.join(words)}."
    name = f"training-{wording.slug(key, set())}"
    return draw("course", name, axes, alt, tokens=tokens, csv=csv_bytes(("group", "seed", "epoch", key), rows))
