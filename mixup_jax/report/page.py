"""The page: what `page.html.j2` is filled with.

The template escapes everything it is given, so names and notes pass through here as they are.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from mixup_jax import __version__
from mixup_jax.escapes import visible
from mixup_jax.report import wording
from mixup_jax.report.blocks import group_blocks, run_blocks
from mixup_jax.report.choices import Choices
from mixup_jax.report.comparisons import Comparison
from mixup_jax.report.groups import Group, flatten
from mixup_jax.report.paper import PaperSection
from mixup_jax.report.picture import Picture
from mixup_jax.report.quantities import Quantity, Section
from mixup_jax.report.runs import Run
from mixup_jax.report.verdict import AS_CLAIMED, CONTRARY, UNDECIDED, Finding

MARKS = {AS_CLAIMED: ("yes", "✓"), CONTRARY: ("no", "✗"), UNDECIDED: ("open", "?")}
Pictures = Mapping[str, Mapping[str, Picture]]


@dataclass(frozen=True)
class Overview:
    """The figures that hold all groups against each other, those of single numbers with their numbers."""

    risk_coverage: Picture
    methods: Sequence[tuple[str, Picture]]
    spread: Sequence[tuple[Quantity, Picture]]
    sweep: Sequence[tuple[Quantity, Picture]]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All of them."""
        return (self.risk_coverage, *(picture for _, picture in (*self.methods, *self.spread, *self.sweep)))


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
        "Training time": wording.duration(run.evaluation.get("training_seconds")),
        "Hardware": _hardware(meta),
        "Versions": ", ".join(f"{name} {version}" for name, version in named if version),
        "Commit": str(meta.get("commit") or ""),
        "Sources": "; ".join(f"{name}: {source}" for name, source in sources.items() if source),
        "Folder": run.name_of_folder,
    }
    return [(name, text or wording.NONE) for name, text in facts.items()]


def _hardware(meta: Mapping[str, Any]) -> str:
    devices, machine = meta.get("device_count"), meta.get("machine")
    counted = f"{devices} {'device' if devices == 1 else 'devices'}" if devices is not None else ""
    return ", ".join(str(part) for part in (machine, counted) if part)


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
    overview: Overview,
    paper: Sequence[PaperSection],
    choices: Choices,
) -> str:
    """Returns the page.

    Args:
      groups: the groups in the order of their columns.
      sections: the blocks of the tables.
      comparisons: baseline against mixup, one for each mixup group that has a baseline.
      no_verdict: why there is no comparison; empty where there is one.
      pictures: the figures of every run by the run's name, then by kind.
      overview: the figures across groups.
      paper: the paper's figures and tables.
      choices: what a reader can switch on and off.
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
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The script holds nothing of the runs, so it is neither filled in nor escaped.
    script = environment.loader.get_source(environment, "script.js.j2")[0] if environment.loader else ""
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
        seeds_differ=any(len(group.runs) > 1 for group in groups),
        run_blocks=run_blocks(sections, [run for _, run, _ in runs]) if len(runs) > len(groups) else [],
        run_card=run_card,
        pictures=pictures,
        overview=overview,
        paper=paper,
        choices=choices,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _subject(runs: Sequence[Run]) -> str:
    data = dict.fromkeys(str(run.setting("data", "name", default=run.test_name)) for run in runs)
    models = dict.fromkeys(_model(run) for run in runs)
    return f"{', '.join(data)} · {', '.join(models)}"


def _model(run: Run) -> str:
    width = run.setting("model", "width")
    name = str(run.setting("model", "name", default="unknown model"))
    return name if width is None else f"{name}, width {width}"
