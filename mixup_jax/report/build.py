"""Builds the report from run folders: reads, checks, computes, draws and writes, in that order."""

import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mixup_jax.environment import FULL
from mixup_jax.errors import InputError
from mixup_jax.report import page, tables
from mixup_jax.report.comparisons import make_comparisons
from mixup_jax.report.figure import Figure, finish
from mixup_jax.report.figure_table import plan_figures
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import make_groups
from mixup_jax.report.quantities import ood_names, sections
from mixup_jax.report.results import as_json, results
from mixup_jax.report.runs import RunRecord, load_runs
from mixup_jax.report.small_tables import auroc_table, difference_table, text_table
from mixup_jax.report.workers import workers
from mixup_jax.runs.files import write_atomically

PAGE, DATA, CSV, FIGURES, PAPER = "index.html", "results.json", "table.csv", "figures", "paper.tex"
TABLES = {
    "table.md": tables.markdown_table,
    "table.tex": tables.latex_table,
}
FIGURES_OF_A_PROCESS = 30
"""With fewer figures for each, further processes take longer to start than they save."""


@dataclass(frozen=True)
class Page:
    """A report that is not yet written: its files by their names, the page last, and the content of results.json."""

    files: Mapping[str, bytes]
    results: Mapping[str, Any]

    def _repr_html_(self) -> str:
        """Returns the page in a frame of its own, as a notebook shows it."""
        page = html.escape(self.files[PAGE].decode(), quote=True)
        return f'<iframe srcdoc="{page}" title="Comparison" style="width: 100%; height: 56rem; border: 0"></iframe>'

    def save(self, output: str | Path) -> Path:
        """Writes all files to a folder and returns the path of index.html; other files in the folder stay."""
        _write(Path(output), self.files)
        return Path(output) / PAGE


def build_report(folders: Sequence[str | Path], output: str | Path, jobs: int = 1, style: str = "page") -> Path:
    """Writes the report about finished runs and returns the path of its index.html.

    It writes index.html, results.json, table.md, table.tex, table.csv and figures/*.svg, *.png and *.csv to
    `output`.  It replaces files with these names and does not touch others.  The same runs give the same bytes.
    Nothing is written unless every run can be read and agrees with its records.

    Args:
      folders: run folders, evaluated by `mixup_jax.evaluate`.
      output: the folder to write to; created if missing.
      jobs: processes that draw the figures and compute the intervals, at most one for every 30 figures.  With more
        than one, a script that calls this needs the guard `if __name__ == "__main__"`.
      style: of the files beside the page, one of `report.STYLES`.

    Raises:
      InputError: a run cannot be used (see `runs.load_runs`, `groups.make_groups`), or `output` cannot be
        made or written to.
    """
    return write_report(partial(load_runs, folders), output, jobs, style)


def write_report(
    runs: Callable[[], Sequence[RunRecord]], output: str | Path, jobs: int = 1, style: str = "page"
) -> Path:
    """Writes the report about runs and returns its path; they are read only if `output` can be written to."""
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; expected at least 1")
    _check_places(Path(output), (PAGE, DATA, CSV, *TABLES))
    return make_page(runs(), jobs, style).save(output)


def make_page(runs: Sequence[RunRecord], jobs: int = 1, style: str = "page") -> Page:
    """Returns the report about runs; see `build_report`."""
    paper = style == "paper"
    groups = make_groups(runs)
    filters = Filters(groups)
    plans = plan_figures(groups, filters)
    with workers(max(1, min(jobs, len(plans) // FIGURES_OF_A_PROCESS))) as run_all:
        comparisons, no_verdict = make_comparisons(groups, run_all)
        differences = difference_table(groups, filters, run_all)
        figures = run_all([partial(finish, plan, paper) for _, plan in plans])
    by_section: dict[str, list[Figure]] = {}
    for (section, _), figure in zip(plans, figures, strict=True):
        by_section.setdefault(section, []).append(figure)
    numbers = sections(ood_names(runs))
    small = {
        "differences": differences,
        "foreign-data": auroc_table(groups, filters),
        "text": text_table(groups, filters),
    }
    small_tables = {anchor: table for anchor, table in small.items() if table is not None}
    contents = page.Contents(groups, numbers, comparisons, no_verdict, by_section, small_tables, filters)
    found = results(contents)
    files = {f"{FIGURES}/{name}": content for figure in figures for name, content in figure.files().items()}
    files |= {f"{FIGURES}/{table.file_name}.csv": table.csv for table in small_tables.values()}
    files |= {DATA: as_json(found)}
    files |= {name: write(groups, numbers).encode() for name, write in TABLES.items()}
    files[CSV] = tables.csv_table(groups, numbers)
    if paper:
        files[PAPER] = tables.latex_of_paper(groups, numbers).encode()
    return Page(files | {PAGE: page.render(contents).encode()}, found)


def _write(output: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files in their order, the page last; writes none if one of them cannot be written."""
    _check_places(output, files)
    try:
        (output / FIGURES).mkdir(parents=True, exist_ok=True)
        for folder in (output, output / FIGURES):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise InputError(f"output {folder} cannot be written to; expected a writable folder")
        for name, content in files.items():
            write_atomically(output / name, content)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, error.strerror, str(output)) from error
        reason = error.strerror or str(error)
        raise InputError(f"output {output} cannot be written ({reason}); expected a writable folder") from error


def _check_places(output: Path, files: Iterable[str]) -> None:
    """Raises InputError if a file has the path of a needed folder, or a folder that of a needed file."""
    for place in (output, *output.parents, output / FIGURES):
        # os.path returns False where a Path raises, for example for a long name; making the folder reports the reason.
        if os.path.exists(place) and not os.path.isdir(place):
            raise InputError(f"output {place} is a file; expected a folder, or a new name for one")
    for name in files:
        if os.path.isdir(output / name):
            raise InputError(f"output {output / name} is a folder; a file of that name is to be written there")
