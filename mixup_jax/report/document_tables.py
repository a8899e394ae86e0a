"""The tables that documents show of runs: made from their records, and written between two comments.

A document, a kind of table, a number or a run that is not there raises InputError.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixup_jax import escapes
from mixup_jax.errors import InputError, not_a_file, unknown_name
from mixup_jax.figures.drawn import MINUS
from mixup_jax.methods.method import VARIANTS
from mixup_jax.report import formatting
from mixup_jax.report.comparisons import make_comparisons
from mixup_jax.report.groups import Group, Summary, make_groups
from mixup_jax.report.quantities import GROUPS, Quantity, ood_names, sections
from mixup_jax.report.runs import load_runs
from mixup_jax.report.tables import line, markdown_table

TABLE = "table.md"
BLOCK = re.compile(
    r"<!-- (?P<kind>\w+) (?P<folder>\S+?)(?:: (?P<keys>[^>]*))? -->\n(?P<body>.*?)<!-- end -->", re.DOTALL
)
STATE = re.compile(r"<!-- state (?P<config>\S+) (?P<folder>\S+) -->(?P<body>[^\n]*?)<!-- end -->")
NO_RECORDS = "No records here yet."
DIGITS = 3


@dataclass(frozen=True)
class Regime:
    """The runs of a folder: their groups, and their main table."""

    groups: tuple[Group, ...]
    table: str


def methods_table(groups: Sequence[Group], keys: Sequence[str]) -> str:
    """Returns a Markdown table with a line for each group and a column for each number."""
    known = _quantities(groups)
    for key in keys:
        if key not in known:
            raise unknown_name("key of a table", key, known)
    chosen = [known[key] for key in keys]
    header = ["method", "seeds", *(_label(quantity) for quantity in chosen)]
    lines = [line(header), line(["---", "---:", *["---:"] * len(chosen)])]
    for group in groups:
        cells = [_spread(group.summary(quantity)) for quantity in chosen]
        lines.append(line([_short(group), str(len(group.runs)), *cells]))
    return "\n".join(lines) + "\n"


def claims_table(groups: Sequence[Group], names: Sequence[str] = ()) -> str:
    """Returns a Markdown table with a line for each claim of the paper and each mixup group with a baseline.

    With `names`, only the mixup groups with these names.
    """
    chosen = [group for group in groups if not names or group.first.kind == "baseline" or _short(group) in names]
    comparisons, reason = make_comparisons(chosen)
    if not comparisons:
        return f"{reason}\n"
    lines = [line(["claim", "baseline", "mixup", "finding"]), line(["---", "---:", "---:", "---"])]
    for comparison in comparisons:
        pair = f"{_short(comparison.mixup)} against {_short(comparison.baseline)}" if len(comparisons) > 1 else ""
        for finding in comparison.findings:
            claim = f"{pair}: {finding.claim.text}" if pair else finding.claim.text
            lines.append(line([claim, _spread(finding.baseline), _spread(finding.mixup), finding.outcome]))
    return "\n".join(lines) + "\n"


def _quantities(groups: Sequence[Group]) -> dict[str, Quantity]:
    blocks = sections(ood_names([run for group in groups for run in group.runs]))
    return {quantity.key: quantity for block in blocks for quantity in block.quantities}


def _label(quantity: Quantity) -> str:
    parts = quantity.path
    if parts[0] == "ood":
        named = quantity.label.replace(" on it", f" on {parts[1]}")
        return named if named != quantity.label else f"{quantity.label} against {parts[1]}"
    if parts[0] == GROUPS:
        return f"{quantity.label}, mean of the {parts[1]} sets"
    if parts[0] == "noise_floor":
        return f"Noise floor of {quantity.label}"
    return f"{quantity.label}, after temperature scaling" if parts[0] == "after_temperature" else quantity.label


def _short(group: Group) -> str:
    """Returns a group's name without the name of the experiment, which all groups of a folder share."""
    return escapes.markdown(group.name.partition("/")[2] or group.name)


def _spread(summary: Summary | None) -> str:
    if summary is None:
        return formatting.NONE
    mean = f"{summary.mean:.{DIGITS}f}".replace("-", MINUS)
    return mean if summary.std is None else f"{mean} ± {summary.std:.{DIGITS}f}"


def load_regime(folder: Path) -> Regime | None:
    """Returns the runs in a folder, or None if there are none."""
    folders = sorted((path.parent for path in folder.glob("*/evaluation.json")), key=_order)
    if not folders:
        return None
    runs = load_runs(folders)
    groups = make_groups(runs)
    return Regime(tuple(groups), markdown_table(groups, sections(ood_names(runs))))


def _order(folder: Path) -> tuple[int, str]:
    """Returns the sort key of a run: named methods in the order of their table, then others by name."""
    named, method = list(VARIANTS), folder.name.rpartition("-")[0]
    return named.index(method) if method in named else len(named), folder.name


def written(documents: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yields every file that is made from the records, with its text: each document, and each folder's table."""
    regime_of = cache(load_regime)
    folders: dict[Path, None] = {}
    for document in documents:
        if not document.is_file():
            raise InputError(f"document {document} {not_a_file(document)}; expected a Markdown file such as README.md")
        try:
            text = document.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"document {document} cannot be read ({error}); expected a Markdown file") from error
        named = [match["folder"] for match in BLOCK.finditer(text)]
        folders |= dict.fromkeys((document.parent / folder).resolve() for folder in named)
        yield document, _renewed(document, regime_of)
    for folder in folders:
        regime = regime_of(folder)
        if regime:
            yield folder / TABLE, regime.table


def _renewed(document: Path, regime_of: Callable[[Path], Regime | None]) -> str:
    """Returns a document's text with its tables and states made again from the records."""
    home = document.parent
    text = BLOCK.sub(lambda match: _filled(match, regime_of((home / match["folder"]).resolve())), document.read_text())
    return STATE.sub(lambda match: _stated(match, home), text)


def _filled(match: re.Match[str], regime: Regime | None) -> str:
    kinds: dict[str, Callable[[Sequence[Group], Sequence[str]], str]] = {
        "methods": methods_table,
        "claims": claims_table,
    }
    if match["kind"] not in kinds:
        raise unknown_name("kind of table", match["kind"], kinds)
    opening = match[0].partition("\n")[0]
    body = kinds[match["kind"]](regime.groups, (match["keys"] or "").split()) if regime else f"{NO_RECORDS}\n"
    return f"{opening}\n{body}<!-- end -->"


def _stated(match: re.Match[str], home: Path) -> str:
    """Returns the mark with "run here" and the number of runs, "ready to run", or "no config"."""
    runs = len(list((home / match["folder"]).glob("*/config.json")))
    if runs:
        state = f"[run here]({match['folder']}), {runs} runs"
    else:
        state = "ready to run" if (home / match["config"]).is_file() else "no config yet"
    return f"<!-- state {match['config']} {match['folder']} -->{state}<!-- end -->"
