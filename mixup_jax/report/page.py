"""The page: what `page.html.j2` is filled with.

The template escapes everything it is given, so names and notes pass through here as they are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from mixup_jax import __version__
from mixup_jax.report import wording
from mixup_jax.report.comparisons import Comparison
from mixup_jax.report.groups import Group, flatten
from mixup_jax.report.pictures import Picture
from mixup_jax.report.quantities import Quantity, Section, examples, interval
from mixup_jax.report.quantities import value as value_of
from mixup_jax.report.runs import Run
from mixup_jax.report.verdict import AS_CLAIMED, CONTRARY, UNDECIDED, Finding

MARKS = {AS_CLAIMED: ("yes", "✓"), CONTRARY: ("no", "✗"), UNDECIDED: ("open", "?")}
Pictures = Mapping[str, Mapping[str, Picture]]


@dataclass(frozen=True)
class Cell:
    """A number of the table, and what is said below it in small print."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table: a number's name, what is better, and a cell for each column."""

    label: str
    aim: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """A block of the table: its heading, the examples it rests on, and its lines."""

    title: str
    examples: str
    rows: tuple[Row, ...]


def group_blocks(sections: Sequence[Section], groups: Sequence[Group]) -> list[Block]:
    """Returns the main table, one column a group: mean and spread, or a single seed's number and interval."""

    def cell(group: Group, quantity: Quantity) -> Cell:
        summary = group.summary(quantity)
        small = "" if summary is None or summary.n_seeds == len(group.runs) else f"{summary.n_seeds} seeds"
        if len(group.runs) == 1:
            small = wording.interval(interval(group.first, quantity), signed=quantity.signed)
        return Cell(wording.spread(summary, signed=quantity.signed), small)

    leaders = [group.first for group in groups]
    return _blocks(sections, leaders, lambda quantity: tuple(cell(group, quantity) for group in groups))


def run_blocks(sections: Sequence[Section], runs: Sequence[Run]) -> list[Block]:
    """Returns the table of single runs, one column a run, with the interval over test examples below each number."""

    def cell(run: Run, quantity: Quantity) -> Cell:
        ends = interval(run, quantity)
        return Cell(
            wording.number(value_of(run, quantity), signed=quantity.signed),
            wording.interval(ends, signed=quantity.signed),
        )

    return _blocks(sections, runs, lambda quantity: tuple(cell(run, quantity) for run in runs))


def _blocks(sections: Sequence[Section], runs: Sequence[Run], cells: Any) -> list[Block]:
    blocks = []
    for section in sections:
        rows = [Row(quantity.label, quantity.aim, cells(quantity)) for quantity in section.quantities]
        rows = [row for row in rows if any(cell.text != wording.NONE for cell in row.cells)]
        counted = list(dict.fromkeys(filter(None, (examples(run, section.quantities[0]) for run in runs))))
        if rows:
            blocks.append(Block(section.title, "; ".join(counted), tuple(rows)))
    return blocks


def data_uri(picture: Picture) -> str:
    """Returns the figure as an address that holds the figure itself."""
    return "data:image/svg+xml;base64," + base64.b64encode(picture.svg).decode("ascii")


def run_card(run: Run) -> list[tuple[str, str]]:
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
        "Data": _settings(run, "data"),
        "Model": _settings(run, "model"),
        "Method": _settings(run, "method"),
        "Optimiser": _settings(run, "optimizer"),
        "Epochs": wording.setting(run.setting("epochs")),
        "Batch size": wording.setting(run.setting("batch_size")),
        "Seed": wording.setting(run.setting("seed")),
        "Checkpoint": f"{wording.setting(run.evaluation.get('checkpoint'))}, step {run.evaluation['step']:,}",
        "Temperature fitted on": wording.setting(run.evaluation.get("temperature_fitted_on")),
        "Devices": wording.setting(meta.get("device_count")),
        "Versions": ", ".join(f"{name} {version}" for name, version in named if version),
        "Commit": str(meta.get("commit") or ""),
        "Sources": "; ".join(f"{name}: {source}" for name, source in sources.items() if source),
        "Folder": run.folder.resolve().name,
    }
    return [(name, text or wording.NONE) for name, text in facts.items()]


def _settings(run: Run, part: str) -> str:
    settings = flatten(run.setting(part, default={}))
    return "; ".join(f"{name.replace('_', ' ')} {_setting(name, value)}" for name, value in settings.items() if name)


def _setting(name: str, value: Any) -> str:
    # Zero means "choose for me" for these two settings, which a reader cannot know.
    special = {"train_examples": "all that validation leaves", "group_size": "automatic"}
    return special[name] if name in special and value == 0 else wording.setting(value)


def finding_row(finding: Finding) -> dict[str, str]:
    """Returns a finding as the texts of its line on the page."""
    tone, mark = MARKS[finding.outcome]
    return {
        "claim": finding.claim.text,
        "basis": f"n = {finding.examples}",
        "baseline": wording.spread(finding.baseline),
        "mixup": wording.spread(finding.mixup),
        "difference": wording.number(finding.difference, signed=True),
        "interval": wording.interval(finding.interval, signed=True) or "no interval",
        "outcome": finding.outcome,
        "reason": finding.reason,
        "tone": tone,
        "mark": mark,
    }


def render(
    groups: Sequence[Group],
    sections: Sequence[Section],
    comparisons: Sequence[Comparison],
    no_verdict: str,
    pictures: Pictures,
) -> str:
    """Returns the page.

    Args:
      groups: the groups in the order of their columns.
      sections: the blocks of the tables.
      comparisons: baseline against mixup, one for each mixup group that has a baseline.
      no_verdict: why there is no comparison; empty where there is one.
      pictures: the figures of every run by the run's name, then by kind.
    """
    runs = [(group, run, group.run_name(run)) for group in groups for run in group.runs]
    notes: dict[str, list[str]] = {}
    for group in groups:
        text = str(group.first.setting("notes", default="") or "").strip()
        if text:
            notes.setdefault(text, []).append(group.name)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixup_jax", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        version=__version__,
        subject=_subject([run for _, run, _ in runs]),
        n_runs=len(runs),
        groups=groups,
        notes=list(notes.items()),
        one_note=len(notes) == 1 and len(next(iter(notes.values()), [])) == len(groups),
        comparisons=comparisons,
        no_verdict=no_verdict,
        finding_row=finding_row,
        seeds=wording.seeds,
        group_blocks=group_blocks(sections, groups),
        runs=runs,
        run_blocks=run_blocks(sections, [run for _, run, _ in runs]) if len(runs) > len(groups) else [],
        run_card=run_card,
        pictures=pictures,
        data_uri=data_uri,
    )


def _subject(runs: Sequence[Run]) -> str:
    data = dict.fromkeys(str(run.setting("data", "name", default=run.test_name)) for run in runs)
    models = dict.fromkeys(_model(run) for run in runs)
    return f"{', '.join(data)} · {', '.join(models)}"


def _model(run: Run) -> str:
    width = run.setting("model", "width")
    name = str(run.setting("model", "name", default="unknown model"))
    return name if width is None else f"{name}, width {width}"
