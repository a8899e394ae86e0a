"""The contents of the page, with which `page.html.j2` is rendered.

The template escapes all text, so names and notes are not escaped here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from mixup_jax import __version__
from mixup_jax.escapes import visible
from mixup_jax.report import formatting
from mixup_jax.report.claims import AS_CLAIMED, CONTRARY, UNDECIDED, Finding
from mixup_jax.report.comparisons import Comparison
from mixup_jax.report.figure import Figure
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import Group, flatten
from mixup_jax.report.page_sections import SECTIONS
from mixup_jax.report.paper_tables import TableFile
from mixup_jax.report.quantities import Quantity, Section, examples, interval, value
from mixup_jax.report.runs import RunRecord

MOST_CLASSES = 20
MARKS = {AS_CLAIMED: ("yes", "✓"), CONTRARY: ("no", "✗"), UNDECIDED: ("open", "?")}


@dataclass(frozen=True)
class Contents:
    """Everything that a page shows.

    Attributes:
      groups: the groups in the order of their columns.
      sections: the blocks of the tables of numbers.
      comparisons: baseline against mixup, one for each mixup group that has a baseline.
      no_verdict: why there is no comparison; empty if there is one.
      figures: the figures by the id of their part of the page.
      tables: the small tables by the id of their part of the page.
      filters: what a reader can switch on and off.
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
    """A number of the table, and the small print below it."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class NumberRow:
    """A line of the table: a number's key, its name, which values are better, and a cell for each column."""

    key: str
    label: str
    aim: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class NumberBlock:
    """A block of the table: the key of its first number, its heading, its number of examples, and its lines."""

    key: str
    title: str
    examples: str
    rows: tuple[NumberRow, ...]


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
        rows = [
            NumberRow(quantity.key, quantity.label, quantity.aim, cells(quantity)) for quantity in section.quantities
        ]
        rows = [row for row in rows if any(cell.text != formatting.NONE for cell in row.cells)]
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
        "Method": _settings(run, "method"),
        "Optimiser": _settings(run, "optimizer"),
        "Epochs": formatting.setting(run.recorded.get("epochs")),
        "Batch size": formatting.setting(run.recorded.get("batch_size")),
        "Seed": formatting.setting(run.seed),
        "Checkpoint": f"{formatting.setting(run.evaluation.get('checkpoint'))}, step {run.evaluation['step']:,}",
        "Temperature fitted on": formatting.setting(run.evaluation.get("temperature_fitted_on")),
        "Training time": formatting.duration(run.evaluation.get("training_seconds")),
        "Hardware": _hardware(meta),
        "Versions": ", ".join(f"{name} {version}" for name, version in named if version),
        "Commit": str(meta.get("commit") or ""),
        "Sources": "; ".join(f"{name}: {source}" for name, source in sources.items() if source),
        "Folder": run.name_of_folder,
    }
    return [(name, text or formatting.NONE) for name, text in facts.items()]


def _classes(names: Sequence[str]) -> str:
    more = f", and {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
    return ", ".join(map(formatting.setting, names[:MOST_CLASSES])) + more


def _hardware(meta: Mapping[str, Any]) -> str:
    devices, machine = meta.get("device_count"), meta.get("machine")
    counted = f"{devices} {'device' if devices == 1 else 'devices'}" if devices is not None else ""
    return ", ".join(str(part) for part in (machine, counted) if part)


def _settings(run: RunRecord, part: str) -> str:
    settings = flatten(run.recorded.get(part, {}))
    return "; ".join(f"{name.replace('_', ' ')} {_setting(name, value)}" for name, value in settings.items() if name)


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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixup_jax", "report"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The script contains nothing from the runs, so it is neither rendered nor escaped.
    script = environment.loader.get_source(environment, "script.js.j2")[0] if environment.loader else ""
    return environment.get_template("page.html.j2").render(
        version=__version__,
        subject=_subject([run for _, run, _ in runs]),
        n_runs=len(runs),
        groups=groups,
        notes=list(notes.items()),
        one_note=len(notes) == 1 and len(next(iter(notes.values()), [])) == len(groups),
        comparisons=contents.comparisons,
        no_verdict=contents.no_verdict,
        finding_row=finding_row,
        seeds=formatting.seeds,
        group_blocks=group_blocks(contents.sections, groups),
        runs=runs,
        seeds_differ=any(len(group.runs) > 1 for group in groups),
        run_blocks=run_blocks(contents.sections, [run for _, run, _ in runs]) if len(runs) > len(groups) else [],
        run_card=run_card,
        sections=[section for section in SECTIONS if section.anchor in {*figures, *contents.tables}],
        figures=figures,
        tables=contents.tables,
        of_run=lambda anchor, name: [one for one in figures.get(anchor, ()) if one.plan.run == name],
        filters=contents.filters,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _subject(runs: Sequence[RunRecord]) -> str:
    data = dict.fromkeys(run.config.data.name if run.config else run.test_name for run in runs)
    models = dict.fromkeys(_model(run) for run in runs)
    return f"{', '.join(data)} · {', '.join(models)}"


def _model(run: RunRecord) -> str:
    return run.config.model.label if run.config else "unknown model"
