"""The contents of the page, with which `page.html.j2` is rendered.

The template escapes all text, so names and notes are not escaped here.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mixup_jax import __version__
from mixup_jax.escapes import visible
from mixup_jax.metrics import table
from mixup_jax.report import formatting, sentences
from mixup_jax.report.claims import AS_CLAIMED, CONTRARY, UNDECIDED, Finding
from mixup_jax.report.comparisons import Comparison
from mixup_jax.report.figure import Figure
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import NAMES_AND_NOTES, Group, best_of, flatten, short_names
from mixup_jax.report.page_sections import SECTIONS, Block, PageSection
from mixup_jax.report.quantities import Quantity, Section, examples, interval, ood_names, value
from mixup_jax.report.runs import RunRecord
from mixup_jax.report.sentences import SENTENCES
from mixup_jax.report.small_tables import TableFile

MOST_CLASSES = 20
MOST_NAMED = 4  # groups in the heading of the page
ALWAYS_SHOWN = ("name", "width")
OF_IMAGES = ("crop", "crop_padding", "image_size", "flip", "rotation")
OF_TEXT = ("max_tokens", "vectors", "vector_size", "common_words")
MARKS = {AS_CLAIMED: ("yes", "✓"), CONTRARY: ("no", "✗"), UNDECIDED: ("open", "?")}


@dataclass(frozen=True)
class Contents:
    """Everything that a page shows.

    There is a comparison for each mixup group that has a baseline, or `no_verdict` says why there is none.  Figures and
    small tables are found by the id of their part of the page.
    """

    groups: Sequence[Group]
    sections: Sequence[Section]
    comparisons: Sequence[Comparison]
    no_verdict: str
    figures: Mapping[str, Sequence[Figure]]
    tables: Mapping[str, TableFile]
    filters: Filters


@dataclass(frozen=True)
class Cell:
    """A number of a table, the small print below it, and whether it is the best of its kind."""

    text: str
    small: str = ""
    best: bool = False


FIVE = 5
MATTERING = (
    Quantity("accuracy", "Accuracy", "higher"),
    Quantity("ece_15", "ECE", "lower"),
    Quantity("oe_15", "OE", "lower"),
    Quantity("after_temperature/ece_15", "ECE, scaled", "lower"),
)
"""The numbers that matter most; AUROC against the first out-of-distribution set is the fifth."""
OTHERWISE = (Quantity("nll", "NLL", "lower"), Quantity("brier", "Brier score", "lower"))
"""What stands in place of those that no group has."""


@dataclass(frozen=True)
class Five:
    """The first table: five numbers, and for every group a cell for each of them."""

    quantities: tuple[Quantity, ...]
    rows: tuple[tuple[Group, tuple[Cell, ...]], ...]


def five_numbers(groups: Sequence[Group]) -> Five:
    """Returns the five numbers that matter most, of every group; the best of each, and its ties, are marked."""
    outside = ood_names([run for group in groups for run in group.runs])[:1]
    detection = [Quantity(f"ood/{name}/auroc", f"AUROC, {name}", "higher") for name in outside]
    candidates = [one for one in (*MATTERING, *detection, *OTHERWISE) if any(group.summary(one) for group in groups)]
    quantities = tuple(candidates[:FIVE])
    best = {quantity: best_of(groups, quantity) for quantity in quantities}

    def cell(group: Group, quantity: Quantity) -> Cell:
        summary = group.summary(quantity)
        if summary is None:
            return Cell(formatting.NONE)
        ends = interval(group.first, quantity) if len(group.runs) == 1 else None
        small = "" if summary.std is None else f"± {summary.std:.3f}"
        small = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else small
        return Cell(f"{summary.mean:.3f}", small, group in best[quantity])

    return Five(quantities, tuple((group, tuple(cell(group, one) for one in quantities)) for group in groups))


@dataclass(frozen=True)
class NumberBlock:
    """A block of the table: the key of its first number, its heading, its number of examples, and its lines.

    A line is a number and a cell for each column.
    """

    key: str
    title: str
    examples: str
    rows: tuple[tuple[Quantity, tuple[Cell, ...]], ...]


def group_blocks(sections: Sequence[Section], groups: Sequence[Group]) -> list[NumberBlock]:
    """Returns the main table with a column for each group: mean and spread, or a single seed's number and interval."""

    def cell(group: Group, quantity: Quantity) -> Cell:
        summary = group.summary(quantity)
        small = "" if summary is None or summary.n_seeds == len(group.runs) else f"{summary.n_seeds} seeds"
        if len(group.runs) == 1:
            small = formatting.interval(interval(group.first, quantity), signed=quantity.signed)
        return Cell(formatting.spread(summary, signed=quantity.signed), small)

    leaders = [group.first for group in groups]
    return _blocks(sections, leaders, lambda quantity: tuple(cell(group, quantity) for group in groups))


def run_blocks(sections: Sequence[Section], runs: Sequence[RunRecord]) -> list[NumberBlock]:
    """Returns the table of single runs with a column for each run, and the interval below each number."""

    def cell(run: RunRecord, quantity: Quantity) -> Cell:
        ends = interval(run, quantity)
        return Cell(
            formatting.number(value(run, quantity), signed=quantity.signed),
            formatting.interval(ends, signed=quantity.signed),
        )

    return _blocks(sections, runs, lambda quantity: tuple(cell(run, quantity) for run in runs))


def _blocks(
    sections: Sequence[Section], runs: Sequence[RunRecord], cells: Callable[[Quantity], tuple[Cell, ...]]
) -> list[NumberBlock]:
    blocks = []
    for section in sections:
        rows = [(quantity, cells(quantity)) for quantity in section.quantities]
        rows = [row for row in rows if any(cell.text != formatting.NONE for cell in row[1])]
        counted = list(dict.fromkeys(filter(None, (examples(run, section.quantities[0]) for run in runs))))
        if rows:
            blocks.append(NumberBlock(section.quantities[0].key, section.title, "; ".join(counted), tuple(rows)))
    return blocks


def run_card(run: RunRecord) -> list[tuple[str, str]]:
    """Returns the facts that a reader may need to judge or repeat a run, as (name, text) pairs."""
    meta = run.test.meta
    versions = meta.get("versions")
    named = versions.items() if isinstance(versions, dict) else ()
    sources = {
        run.test_name: meta.get("source"),
        **{name: record.meta.get("source") for name, record in run.ood.items()},
    }
    facts = {
        "Test set": f"{run.test_name}, n = {run.result['n']:,}",
        "Classes": _classes(run.class_names),
        "Data": _settings(run, "data"),
        "Model": _settings(run, "model"),
        "Method": _settings(run, "method") or ("as ERM" if run.config else ""),
        "Optimiser": _settings(run, "optimizer"),
        "Epochs": formatting.setting(run.recorded.get("epochs")),
        "Batch size": formatting.setting(run.recorded.get("batch_size")),
        "Seed": formatting.setting(run.seed),
        "Checkpoint": _checkpoint(run),
        "Temperature fitted on": formatting.setting(run.evaluation.get("temperature_fitted_on")),
        "Training time": formatting.duration(run.evaluation.get("training_seconds")),
        "Hardware": _hardware(meta),
        "Versions": ", ".join(f"{name} {version}" for name, version in named if version),
        "Commit": str(meta.get("commit") or ""),
        "Sources": "; ".join(f"{name}: {source}" for name, source in sources.items() if source),
        "Folder": run.name_of_folder,
    }
    if run.config is None:  # of a file little is known
        return [(name, text) for name, text in facts.items() if text and text != formatting.NONE]
    return [(name, text or formatting.NONE) for name, text in facts.items()]


def _classes(names: Sequence[str]) -> str:
    more = f", and {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
    return ", ".join(map(formatting.setting, names[:MOST_CLASSES])) + more


def _checkpoint(run: RunRecord) -> str:
    kind, step = formatting.setting(run.evaluation.get("checkpoint")), run.evaluation["step"]
    return f"{kind}, step {step:,}" if step or run.config else ""


def _hardware(meta: Mapping[str, Any]) -> str:
    devices, machine = meta.get("device_count"), meta.get("machine")
    counted = f"{devices} {'device' if devices == 1 else 'devices'}" if devices is not None else ""
    return ", ".join(str(part) for part in (machine, counted) if part)


def facts_of(runs: Sequence[RunRecord]) -> tuple[list[tuple[str, str]], dict[Path, list[tuple[str, str]]]]:
    """Returns the facts that all runs share, and by the folder of each run the others, those that differ in front.

    A single run shares nothing with others: all facts are its own.
    """
    cards = {run.folder: run_card(run) for run in runs}
    first = next(iter(cards.values()))
    shared = [fact for fact in first if len(runs) > 1 and all(fact in card for card in cards.values())]
    shared = [fact for fact in shared if fact[1] != formatting.NONE]
    flat = {run.folder: flatten(run.recorded) for run in runs}
    keys = [key for key in dict.fromkeys(key for one in flat.values() for key in one) if key not in NAMES_AND_NOTES]
    differing = [key for key in keys if len({str(one.get(key)) for one in flat.values()}) > 1]
    own: dict[Path, list[tuple[str, str]]] = {}
    for folder, card in cards.items():
        told = "; ".join(f"{_words(key)} {_setting(key.split('.')[-1], flat[folder].get(key))}" for key in differing)
        own[folder] = [*([("Differs in", told)] if told else []), *(fact for fact in card if fact not in shared)]
    return shared, own


def _words(key: str) -> str:
    return key.split(".")[-1].replace("_", " ")


def _settings(run: RunRecord, part: str) -> str:
    """Returns the settings of a part of the config that have an effect, as text."""
    settings = flatten(run.recorded.get(part, {}))
    return "; ".join(
        f"{_words(name)} {_setting(name, value)}"
        for name, value in settings.items()
        if name and has_effect(run, part, name)
    )


def has_effect(run: RunRecord, part: str, name: str) -> bool:
    """Returns whether a setting can change anything for this run's network, data and method.

    A network refuses settings that it does not have unless they are at their defaults, so settings of the model at
    their defaults are left out; likewise settings of a method that switch nothing on, and those of other data.
    """
    config = run.config
    if config is None:
        return True
    settings, text = getattr(config, part, None), config.model.name == "text_cnn"
    if part in ("model", "method"):
        default = getattr(type(settings), name, None)
        return name in ALWAYS_SHOWN or "." in name or getattr(settings, name, None) != default
    if part == "data":
        return name not in (OF_IMAGES if text else OF_TEXT)
    given = {"step_epochs": config.optimizer.schedule == "steps", "step_factor": config.optimizer.schedule == "steps"}
    given |= dict.fromkeys(("momentum", "nesterov"), config.optimizer.name == "sgd")
    given |= {"warmup_start": config.optimizer.warmup_epochs > 0, "max_norm": config.optimizer.max_norm > 0}
    return given.get(name, True)


def _setting(name: str, value: Any) -> str:
    # For these two settings 0 has a special meaning, which a reader cannot know.
    special = {"train_examples": "all that validation leaves", "group_size": "automatic"}
    return special[name] if name in special and value == 0 else formatting.setting(value)


def finding_row(finding: Finding) -> dict[str, str]:
    """Returns the texts of a finding's line on the page."""
    tone, mark = MARKS[finding.outcome]
    return {
        "claim": finding.claim.text,
        "basis": f"n = {finding.examples}",
        "baseline": formatting.spread(finding.baseline),
        "mixup": formatting.spread(finding.mixup),
        "difference": formatting.number(finding.difference, signed=True),
        "interval": formatting.interval(finding.interval, signed=True) or "no interval",
        "outcome": finding.outcome,
        "reason": finding.reason,
        "tone": tone,
        "mark": mark,
    }


def render(contents: Contents) -> str:
    """Returns the page."""
    groups, figures = contents.groups, contents.figures
    runs = [(group, run, group.run_name(run)) for group in groups for run in group.runs]
    notes: dict[str, list[str]] = {}
    for group in groups:
        text = group.first.notes.strip()
        if text:
            notes.setdefault(text, []).append(group.name)
    plain_runs = [run for _, run, _ in runs]
    shared, own = facts_of(plain_runs)
    glyphs = {name: path for drawn in figures.values() for figure in drawn for name, path in figure.glyphs.items()}
    loader = jinja2.PackageLoader("mixup_jax", "report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The script contains nothing from the runs, so it is neither rendered nor escaped.
    script = loader.get_source(environment, "script.js.j2")[0]
    return environment.get_template("page.html.j2").render(
        version=__version__,
        compared=_compared(groups),
        subject=_subject(groups),
        verdict=sentences.verdict(contents.comparisons, groups),
        remarked=sentences.below_chance(groups),
        five=five_numbers(groups),
        short=short_names(groups),
        groups=groups,
        notes=list(notes.items()),
        one_note=len(notes) == 1 and len(next(iter(notes.values()), [])) == len(groups),
        comparisons=contents.comparisons,
        no_verdict=contents.no_verdict,
        judged=any(run.config for run in plain_runs),
        finding_row=finding_row,
        seeds=formatting.seeds,
        covered=table.what_intervals_cover(),
        group_blocks=group_blocks(contents.sections, groups),
        runs=runs,
        seeds_differ=any(len(group.runs) > 1 for group in groups),
        run_blocks=run_blocks(contents.sections, plain_runs) if len(runs) > len(groups) else [],
        run_card=lambda run: own[run.folder],
        shared_facts=shared,
        sections=[one for one in SECTIONS if _blocks_of(one, figures) or one.anchor in contents.tables],
        blocks_of=lambda section: _blocks_of(section, figures),
        sentence_of=lambda section: SENTENCES.get(section.anchor, lambda _: "")(groups),
        glyphs=Markup("").join(glyphs[name] for name in sorted(glyphs)),
        figures=figures,
        tables=contents.tables,
        of_run=lambda anchor, name: [one for one in figures.get(anchor, ()) if one.plan.run == name],
        filters=contents.filters,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _blocks_of(section: PageSection, figures: Mapping[str, Sequence[Figure]]) -> list[Block]:
    return [block for block in section.blocks if figures.get(block.anchor)]


def _compared(groups: Sequence[Group]) -> str:
    names = list(short_names(groups).values())
    return (
        f"{len(names)} methods"
        if len(names) > MOST_NAMED
        else " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    )


def _subject(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    data = dict.fromkeys(run.config.data.name for run in runs if run.config)
    models = dict.fromkeys(run.config.model.label for run in runs if run.config)
    counts = dict.fromkeys(f"{run.result['n']:,}" for run in runs)
    trained = sum(run.config is not None for run in runs)
    counted = [
        f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((trained, "run"), (len(runs) - trained, "file")) if n
    ]
    parts = [", ".join(data), ", ".join(models), " and ".join(counted), f"n = {' or '.join(counts)} test examples"]
    return " · ".join(part for part in parts if part)
