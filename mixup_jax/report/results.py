"""results.json: everything on the page as data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mixup_jax import __version__
from mixup_jax.report.claims import Finding
from mixup_jax.report.comparisons import Comparison
from mixup_jax.report.figure import FigurePlan
from mixup_jax.report.groups import Group, Summary
from mixup_jax.report.page import Contents
from mixup_jax.report.quantities import Quantity, interval, value
from mixup_jax.report.runs import RunRecord

SCHEMA = 1


def results(contents: Contents) -> dict[str, Any]:
    """Returns everything on the page as JSON-serialisable data; fractions, never percent."""
    quantities = [quantity for section in contents.sections for quantity in section.quantities]
    plans = [figure.plan for figures in contents.figures.values() for figure in figures]
    runs = [(group, run) for group in contents.groups for run in group.runs]
    return {
        "schema": SCHEMA,
        "version": __version__,
        "groups": [_group(group, quantities) for group in contents.groups],
        "runs": [_run(group, run, quantities, plans) for group, run in runs],
        "verdict": [_comparison(comparison) for comparison in contents.comparisons],
        "no_verdict": contents.no_verdict,
        "figures": {plan.file_name: _path(plan) for plan in plans if not plan.run},
    }


def _path(plan: FigurePlan) -> str:
    return f"figures/{plan.file_name}.svg"


def as_json(data: Mapping[str, Any]) -> bytes:
    """Returns the file's content."""
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()


def _group(group: Group, quantities: Sequence[Quantity]) -> dict[str, Any]:
    return {
        "name": group.name,
        "kind": group.first.kind,
        "n_seeds": len(group.runs),
        "seeds": list(group.seeds),
        "test_set": group.first.test_name,
        "notes": group.first.notes,
        "metrics": {
            quantity.key: {**_summary(summary), "n": _count(group.runs, quantity), "bins": quantity.bins}
            for quantity in quantities
            if (summary := group.summary(quantity))
        },
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {"mean": summary.mean, "std": summary.std, "n_seeds": summary.n_seeds, "values": list(summary.values)}


def _count(runs: Sequence[RunRecord], quantity: Quantity) -> int | dict[str, int] | None:
    """Returns the number of examples of the first run that has the number; with two sets, the number of each."""
    for run in runs:
        if value(run, quantity) is None:
            continue
        if quantity.path[0] != "ood":
            return int(run.result["n"])
        numbers = run.evaluation["ood"][quantity.path[1]]
        both = {"in": int(numbers["n_in"]), "out": int(numbers["n_out"])}
        return both["out"] if quantity.path[-1] == "mean_confidence" else both
    return None


def _run(group: Group, run: RunRecord, quantities: Sequence[Quantity], plans: Sequence[FigurePlan]) -> dict[str, Any]:
    meta, name = run.test.meta, group.run_name(run)
    return {
        "name": name,
        "group": group.name,
        "folder": run.name_of_folder,
        "seed": run.seed,
        "step": run.evaluation["step"],
        "checkpoint": run.evaluation.get("checkpoint"),
        "temperature_fitted_on": run.evaluation.get("temperature_fitted_on"),
        "training_seconds": run.evaluation.get("training_seconds"),
        "device_count": meta.get("device_count"),
        "versions": meta.get("versions"),
        "commit": meta.get("commit"),
        "machine": meta.get("machine"),
        "config": run.recorded,
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
        "figures": {plan.kind: _path(plan) for plan in plans if plan.run == name},
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
