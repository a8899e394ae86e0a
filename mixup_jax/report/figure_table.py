"""The table of figures: what each shows, which runs it needs, and its place on the page.

To add a figure, write a function in `mixup_jax.figures` that returns a `Drawn`, and its row in `FIGURES`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from mixup_jax.figures import confidence, epochs, pictures, reliability, seeds
from mixup_jax.metrics.softmax import Floats
from mixup_jax.report import formatting
from mixup_jax.report.checks import RecordedSet
from mixup_jax.report.figure import FigurePlan
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import (
    Group,
    Summary,
    alpha_families,
    nearest_baseline,
    pooled_bins,
    soft_label_families,
    summaries_of,
)
from mixup_jax.report.quantities import Quantity, ood_names
from mixup_jax.report.runs import RunRecord

N_BINS = 15
FEWEST_ALPHAS = 3
SCALED = " + temp. scaling"
MOST_OVERLAID = 6
"""The most groups that the diagram at the beginning of the page shows: more lines could not be told apart."""
ACCURACY = Quantity("accuracy", "Accuracy", "higher")
SWEPT = (ACCURACY, Quantity("ece_15", "ECE, 15 bins", "lower"), Quantity("oe_15", "OE, 15 bins", "lower"))
ERRORS = (Quantity("ece_15", "ECE, 15 bins"), Quantity("oe_15", "OE, 15 bins"))
BEFORE_AND_AFTER = (
    Quantity("ece_15", "as trained"),
    Quantity("after_temperature/ece_15", "after temperature scaling"),
)
COMPARED = {"ECE and OE, as trained": ERRORS, "ECE, as trained and after temperature scaling": BEFORE_AND_AFTER}
"""The figures of bars: the title of each, and its numbers with their names in the figure."""
BARS_AXIS = "calibration error, 15 bins"
CONFIDENCE, LOSS = "validation_confidence", "train_loss"
LOGGED = {
    CONFIDENCE: "mean confidence, validation",
    "validation_ece_15": "ECE, 15 bins, validation",
    "validation_oe_15": "OE, 15 bins, validation",
    LOSS: "training loss",
}
"""The numbers that are drawn over the epochs, by their names in metrics.jsonl."""


@dataclass(frozen=True)
class Material:
    """The input of the figures; `slugs` are the prefixes of the runs' file names, by the names of the runs."""

    groups: Sequence[Group]
    filters: Filters
    slugs: Mapping[str, str]

    @property
    def runs(self) -> list[tuple[Group, RunRecord, str]]:
        """Every run with its group and its name."""
        return [(group, run, group.run_name(run)) for group in self.groups for run in group.runs]

    @property
    def ood(self) -> list[str]:
        """The names of the out-of-distribution sets."""
        return ood_names([run for _, run, _ in self.runs])


Plans = Iterator[FigurePlan]


@dataclass(frozen=True)
class FigureRow:
    """A row of the table of figures.

    Attributes:
      section: the block of the page it belongs to, by its id in `page_sections.SECTIONS`; "first" is the beginning of
        the page, "runs" are the cards of single runs.
      needs: which runs it needs.
      plans: returns the figures that can be drawn from the runs.
      single: whether each figure is about a single run; its file name then begins with the run's name.
    """

    section: str
    needs: str
    plans: Callable[[Material], Plans]
    single: bool = False


def _overlay(material: Material) -> Plans:
    # Those that the paper's claims are about come first.
    judged = [group for group in material.groups if group.first.kind in ("baseline", "mixup")]
    groups = list(dict.fromkeys([*judged, *material.groups]))[:MOST_OVERLAID]
    groups = [group for group in material.groups if group in groups]
    bins = {group.name: pooled_bins(group, N_BINS) for group in groups}
    rest = len(material.groups) - len(groups)
    below = f"{len(groups)} of {len(material.groups)} groups; all of them below" if rest else ""
    draw = partial(reliability.overlay_figure, bins)
    parts = material.filters.of_curves(groups)
    yield FigurePlan("overlay", "reliability-of-all", draw, "Accuracy against confidence", below, parts=parts)


def _reliability(material: Material) -> Plans:
    for _, run, name in material.runs:
        states = [("reliability", "As trained", "as trained", name, False, "state-raw")]
        if run.temperature is not None:
            how = f"after temperature scaling, T = {run.temperature:.3f}"
            kind, heading = "reliability-after-temperature", "After temperature scaling"
            states.append((kind, heading, how, f"{name}, {how}", True, "state-scaled"))
        for kind, heading, title, described, scaled, token in states:
            yield FigurePlan(
                kind,
                f"{material.slugs[name]}-{kind}",
                partial(reliability.reliability_figure, run.bins(N_BINS, scaled=scaled), described, title),
                heading,
                filters=token,
                run=name,
                alone={"legend": True},
            )


def _confidence(material: Material) -> Plans:
    if not material.ood:  # the reliability diagrams show how confidence is spread on the test set
        return
    sets = [recorded for _, run, _ in material.runs for recorded in (run.test, *run.ood.values())]
    # All histograms of a page share their axes; logarithmic ones begin at half an example of the largest set.
    top = 1.05 * max(float(confidence.histogram_shares(one.trained.confidence).max()) for one in sets)
    bottom = 0.5 / max(len(one.labels) for one in sets)
    draw = partial(confidence.confidence_figure, top=top, bottom=bottom)
    scales: tuple[tuple[str, Literal["linear", "log"], str], ...] = (
        ("confidence", "linear", ""),
        ("confidence-log", "log", ", logarithmic"),
    )
    for group, run, name in (one for one in material.runs if one[1].ood):
        inside, outside = run.test.trained.confidence, {ood: one.trained.confidence for ood, one in run.ood.items()}
        for kind, scale, words in scales:
            yield FigurePlan(
                kind,
                f"{material.slugs[name]}-{kind}",
                partial(draw, inside, outside, name, in_name=run.test_name, scale=scale),
                group.name,
                f"{name.removeprefix(group.name).lstrip(', ')}{words}".removeprefix(", "),
                f"{material.filters.of_run(group, run)} scale-{scale}",
                material.filters.seeds_before(group, run),
                {f"set-{index}": material.filters.of_ood(ood) for index, ood in enumerate(outside)},
                name,
            )


def _risk(material: Material) -> Plans:
    outcomes = {}
    for group in material.groups:
        # The MSP score also ranks examples whose confidence rounds to 1.
        examined = [run.test.trained.only_labelled() for run in group.runs]
        outcomes[group.name] = [(-one.msp, one.correct) for one in examined]
    draw = partial(confidence.risk_coverage_figure, outcomes)
    heading = "Error among the surest examples"
    yield FigurePlan("risk-coverage", "risk-coverage", draw, heading, parts=material.filters.of_curves(material.groups))


def _methods(material: Material) -> Plans:
    for title, quantities in COMPARED.items() if len(material.groups) > 1 else ():
        found = {quantity: summaries_of(material.groups, quantity) for quantity in quantities}
        if all(found.values()):
            name = f"methods-{formatting.slug(title, set())}"
            yield _bars(material, found, title, name, (title, "15 bins"))


def _bars(
    material: Material,
    found: Mapping[Quantity, Mapping[Group, Summary]],
    title: str,
    file_name: str,
    above: tuple[str, str],
) -> FigurePlan:
    """Returns a figure of bars of several groups; `above` has its heading and small print."""
    values = {
        quantity.label: {group.name: summary.values for group, summary in summaries.items()}
        for quantity, summaries in found.items()
    }
    parts = material.filters.of_values(pair for summaries in found.values() for pair in summaries.items())
    draw = partial(seeds.method_bars_figure, values, title, BARS_AXIS)
    return FigurePlan("methods", file_name, draw, *above, parts=parts)


def _spread(material: Material) -> Plans:
    if all(len(group.runs) == 1 for group in material.groups):
        return
    outside = [Quantity(f"ood/{name}/auroc", f"AUROC, {name}", "higher") for name in material.ood]
    for quantity in (ACCURACY, *outside):
        found = summaries_of(material.groups, quantity)
        if found:
            values = {group.name: summary.values for group, summary in found.items()}
            names = {group.name: _seed_names(group, summary) for group, summary in found.items()}
            yield FigurePlan(
                "seeds",
                f"seeds-{formatting.slug(quantity.key, set())}",
                partial(seeds.seed_spread_figure, values, quantity.label, names),
                quantity.label,
                f"{quantity.aim} is better",
                material.filters.of_key(quantity.key),
                parts=material.filters.of_values(found.items()),
            )


def _seed_names(group: Group, summary: Summary) -> list[str]:
    # If a run lacks the number, values cannot be assigned to seeds.
    traced = len(summary.values) == len(group.runs)
    return [group.run_name(run) for run in group.runs] if traced else [group.name] * len(summary.values)


def _sweep(material: Material) -> Plans:
    taken: set[str] = set()
    for family in alpha_families(material.groups):
        for quantity in SWEPT if len(family) >= FEWEST_ALPHAS else ():
            found = summaries_of(family, quantity)
            values = {group.alpha: summary.values for group, summary in found.items()}
            yield FigurePlan(
                "alpha",
                formatting.slug(f"alpha {quantity.key}", taken),
                partial(seeds.alpha_sweep_figure, values, quantity.label),
                quantity.label,
                f"{quantity.aim} is better",
                parts=material.filters.of_values(found.items()),
            )


def _epochs(material: Material) -> Plans:
    taken: set[str] = set()
    for group in material.groups:
        by_epoch = group.outcomes_by_epoch()
        if by_epoch:
            yield FigurePlan(
                "epochs",
                formatting.slug(f"{group.name} epochs", taken),
                partial(epochs.density_figure, by_epoch, group.name),
                group.name,
                formatting.count_seeds(len(group.runs)),
                material.filters.of_group(group),
            )


def _scatter(material: Material) -> Plans:
    beside = {group: nearest_baseline(group, material.groups) for group in material.groups}
    taken: set[str] = set()
    for group, baseline in beside.items():
        # A baseline that is drawn together with another group has no separate figure.
        if baseline is None and group in beside.values():
            continue
        bins = {one.name: pooled_bins(one, N_BINS) for one in (baseline, group) if one is not None}
        name = formatting.slug(f"{group.name} scatter", taken)
        draw = partial(reliability.scatter_figure, bins)
        yield FigurePlan("scatter", name, draw, group.name, filters=material.filters.of_group(group))


def _soft_labels(material: Material) -> Plans:
    taken: set[str] = set()
    for family in soft_label_families(material.groups):
        found = {quantity: summaries_of(family, quantity) for quantity in ERRORS}
        if all(found.values()):
            name, above = formatting.slug("soft labels", taken), ("ECE and OE", "15 bins, lower is better")
            yield _bars(material, found, "ECE and OE by what is mixed", name, above)


def _winning_scores(material: Material) -> Plans:
    for ood in material.ood:
        groups = [group for group in material.groups if all(ood in run.ood for run in group.runs)]
        scores: dict[str, list[Floats]] = {}
        drawn = []
        for group in groups:
            after = group.first.kind == "baseline" and all(run.temperature for run in group.runs)
            for name, scaled in ((group.name, False), *([(group.name + SCALED, True)] if after else [])):
                scores[name] = [run.ood[ood].examined(scaled=scaled).confidence for run in group.runs]
                drawn.append(group)
        if len(groups) > 1:
            yield FigurePlan(
                "scores",
                f"winning-scores-{formatting.slug(ood, set())}",
                partial(confidence.winning_scores_figure, scores, ood),
                ood,
                "mean of the seeds" if any(len(group.runs) > 1 for group in material.groups) else "",
                material.filters.of_ood(ood),
                parts=material.filters.of_curves(drawn),
            )


def _pictures(material: Material) -> Plans:
    taken: set[str] = set()
    for group in material.groups:
        run = group.first
        for name, record in {run.test_name.removesuffix("/test"): run.test, **run.ood}.items():
            shown = _shown(run, name, record)
            if shown:
                yield FigurePlan(
                    "pictures",
                    formatting.slug(f"{group.name} pictures {name}", taken),
                    partial(pictures.examples_figure, shown, group.run_name(run), name),
                    f"{group.name}: {'mistakes' if record is run.test else name}",
                    filters=material.filters.of_group(group),
                )


def _shown(run: RunRecord, name: str, record: RecordedSet) -> list[pictures.Shown]:
    """Returns the pictures that are kept of a data set, with what the record says of them."""
    if run.pictures is None:
        return []
    names, kept = dict(enumerate(run.class_names)), run.pictures.of(name)
    return [
        pictures.Shown(
            pixels,
            row,
            names.get(predicted, f"class {predicted}"),
            float(record.trained.confidence[row]),
            names.get(label, f"class {label}") if (label := int(record.labels[row])) >= 0 else "",
        )
        for pixels, row, predicted in zip(kept.images, kept.rows.tolist(), kept.predicted.tolist(), strict=True)
    ]


def _over_epochs(material: Material) -> Plans:
    plans = []
    for key, label in LOGGED.items():
        logged_by = {group: group.logged(key) for group in material.groups}
        found = {group: by_seed for group, by_seed in logged_by.items() if by_seed}
        values = {group.name: by_seed for group, by_seed in found.items()}
        options = {"from_zero": key != CONFIDENCE, "smooth": key == LOSS}
        draw = partial(epochs.over_epochs_figure, values, key, label, **options)
        name = f"training-{formatting.slug(key, set())}"
        plan = FigurePlan("over-epochs", name, draw, label, parts=material.filters.of_curves(found))
        plans += [plan] if found else []
    # If only the loss was logged, the cards of the runs show it.
    yield from plans if len(plans) > 1 else ()


def _training(material: Material) -> Plans:
    for _, run, name in material.runs:
        loss, accuracy = map(run.logged, ("train_loss", "validation_accuracy"))
        if len(loss) > 1 and accuracy:
            yield FigurePlan(
                "training",
                f"{material.slugs[name]}-training",
                partial(epochs.training_figure, loss, accuracy, name),
                "Training",
                "the loss is that of the method itself",
                run=name,
            )


FIGURES = (
    FigureRow("first", "any", _overlay),
    FigureRow("risk", "any", _risk),
    FigureRow("methods", "two groups", _methods),
    FigureRow("seeds", "a group of several seeds", _spread),
    FigureRow("alpha", "three groups that differ in mixup's alpha alone", _sweep),
    FigureRow("epochs", "a group with records of epochs", _epochs),
    FigureRow("scatter", "any", _scatter),
    FigureRow("soft-labels", "groups that differ in what is mixed alone, one of them inputs alone", _soft_labels),
    FigureRow("foreign", "two groups with an out-of-distribution set in common", _winning_scores),
    FigureRow("pictures", "a run whose evaluation kept pictures", _pictures),
    FigureRow("training", "a group that logged validations at two epochs or more", _over_epochs),
    FigureRow("reliability", "any", _reliability, single=True),
    FigureRow("confidence", "a run with an out-of-distribution set", _confidence, single=True),
    FigureRow("runs", "a run that logged loss and validation accuracy", _training, single=True),
)
"""The figures, in the order in which results.json lists them."""


def plan_figures(groups: Sequence[Group], filters: Filters) -> list[tuple[str, FigurePlan]]:
    """Returns every figure that can be drawn from the runs, with the id of its part of the page."""
    material = Material(groups, filters, {})
    shared = [(row.section, plan) for row in FIGURES if not row.single for plan in row.plans(material)]
    taken = {plan.file_name for _, plan in shared}
    material = replace(material, slugs={name: formatting.slug(name, taken) for _, _, name in material.runs})
    return [*shared, *((row.section, plan) for row in FIGURES if row.single for plan in row.plans(material))]
