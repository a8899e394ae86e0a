"""results.json: everything on the page as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mixup_jax import __version__
from mixup_jax.report.comparisons import Comparison
from mixup_jax.report.groups import Group, Summary, kind
from mixup_jax.report.picture import Picture
from mixup_jax.report.quantities import Quantity, Section, interval, value
from mixup_jax.report.runs import Run
from mixup_jax.report.verdict import Finding

SCHEMA = 1


def results(
    groups: Sequence[Group],
    sections: Sequence[Section],
    comparisons: Sequence[Comparison],
    no_verdict: str,
    pictures: Mapping[str, Mapping[str, Picture]],
    overview: Sequence[Picture],
) -> dict[str, Any]:
    """Returns everything on the page as JSON-serialisable data; fractions, never percent."""
    quantities = [quantity for section in sections for quantity in section.quantities]
    return {
        "schema": SCHEMA,
        "version": __version__,
        "groups": [_group(group, quantities) for group in groups],
        "runs": [_run(group, run, quantities, pictures[group.run_name(run)]) for group in groups for run in group.runs],
        "verdict": [_comparison(comparison) for comparison in comparisons],
        "no_verdict": no_verdict,
        "figures": {picture.file_name: f"figures/{picture.file_name}.svg" for picture in overview},
    }


def as_json(data: Mapping[str, Any]) -> bytes:
    """Returns the file's content."""
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()


def _group(group: Group, quantities: Sequence[Quantity]) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": kind(group.first),
        "n_seeds": len(group.runs),
        "seeds": list(group.seeds),
        "test_set": group.first.test_name,
        "notes": str(group.first.setting("notes", default="") or ""),
        "metrics": {
            quantity.key: {**_summary(summary), "n": _count(group.runs, quantity), "bins": quantity.bins}
            for quantity in quantities
            if (summary := group.summary(quantity))
        },
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {"mean": summary.mean, "std": summary.std, "n_seeds": summary.n_seeds, "values": list(summary.values)}


def _count(runs: Sequence[Run], quantity: Quantity) -> int | dict[str, int] | None:
    """Returns the number of examples, by role where there are two sets, of the first run that has the number."""
    for run in runs:
        if value(run, quantity) is None:
            continue
        if quantity.path[0] != "ood":
            return int(run.result["n"])
        numbers = run.evaluation["ood"][quantity.path[1]]
        both = {"in": int(numbers["n_in"]), "out": int(numbers["n_out"])}
        return both["out"] if quantity.path[-1] == "mean_confidence" else both
    return None


def _run(group: Group, run: Run, quantities: Sequence[Quantity], pictures: Mapping[str, Picture]) -> dict[str, Any]:
    meta = run.test.meta
    return {
        "name": group.run_name(run),
        "group": group.name,
        "folder": run.name_of_folder,
        "seed": run.setting("seed"),
        "step": run.evaluation["step"],
        "checkpoint": run.evaluation.get("checkpoint"),
        "temperature_fitted_on": run.evaluation.get("temperature_fitted_on"),
        "training_seconds": run.evaluation.get("training_seconds"),
        "device_count": meta.get("device_count"),
        "versions": meta.get("versions"),
        "commit": meta.get("commit"),
        "machine": meta.get("machine"),
        "config": run.config,
        "metrics": {
            quantity.key: {
                "value": found,
                "interval": list(ends) if (ends := interval(run, quantity)) else None,
                "n": _count([run], quantity),
                "bins": quantity.bins,
            }
            for quantity in quantities
            if (found := value(run, quantity)) is not None
        },
        "figures": {kind: f"figures/{picture.file_name}.svg" for kind, picture in pictures.items()},
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "baseline": comparison.baseline.name,
        "mixup": comparison.mixup.name,
        "headline": comparison.headline,
        "remarks": [remark._asdict() for remark in comparison.remarks],
        "findings": [_finding(finding) for finding in comparison.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "claim": finding.claim.text,
        "metric": finding.claim.key,
        "bins": finding.claim.bins,
        "examples": finding.examples,
        "baseline": _summary(finding.baseline),
        "mixup": _summary(finding.mixup),
        "difference": finding.difference,
        "interval": list(finding.interval) if finding.interval else None,
        "standard_error_over_seeds": finding.standard_error,
        "outcome": finding.outcome,
        "reason": finding.reason,
    }
