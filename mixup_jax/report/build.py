"""From run folders to a folder with the report: read, check, compute, draw, write, in that order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mixup_jax.environment import FULL
from mixup_jax.errors import InputError
from mixup_jax.report import overview, page, tables, wording
from mixup_jax.report.choices import Choices
from mixup_jax.report.comparisons import make_comparisons
from mixup_jax.report.groups import make_groups
from mixup_jax.report.paper import paper_sections
from mixup_jax.report.pictures import largest_share, pictures_of, smallest_share
from mixup_jax.report.quantities import ood_names, sections
from mixup_jax.report.results import as_json, results
from mixup_jax.report.runs import load_runs
from mixup_jax.runs.files import write_atomically

PAGE, DATA, FIGURES = "index.html", "results.json", "figures"
TABLES = {
    "table.md": tables.markdown_table,
    "table.tex": tables.latex_table,
    "table.csv": tables.csv_table,
}


def build_report(folders: Sequence[str | Path], output: str | Path) -> Path:
    """Writes the report about finished runs and returns the path of its index.html.

    Into `output` go index.html, results.json, table.md, table.tex, table.csv and figures/*.svg,
    *.png and *.csv; files of those names are replaced, others are left alone.  The same runs give the same
    bytes.  Nothing is written unless every run could be read and agrees with its records.

    Args:
      folders: run folders, evaluated by `mixup_jax.evaluate`.
      output: the folder to write to; it is created where needed.

    Raises:
      InputError: a run cannot be used (see `runs.load_runs`, `groups.make_groups`), or `output` cannot be
        made or written to.
    """
    output = Path(output)
    _check_places(output, (PAGE, DATA, *TABLES))
    runs = load_runs(folders)
    groups = make_groups(runs)
    blocks = sections(ood_names(runs))
    comparisons, no_verdict = make_comparisons(groups)
    choices = Choices(groups)
    across = page.Overview(
        overview.risk_coverage_picture(groups, choices),
        overview.method_pictures(groups, choices),
        overview.spread_pictures(groups, choices),
        overview.sweep_pictures(groups, choices),
    )
    paper = paper_sections(groups, choices)
    shared = (*across.pictures, *(shown.picture for section in paper for shown in section.shown))
    taken = {picture.file_name for picture in shared}
    top, bottom = 1.05 * largest_share(runs), smallest_share(runs)
    ood_tokens = {name: choices.of_ood(name) for name in ood_names(runs)}
    pictures = {
        name: pictures_of(run, name, wording.slug(name, taken), top=top, bottom=bottom, ood_tokens=ood_tokens)
        for group in groups
        for run in group.runs
        for name in [group.run_name(run)]
    }
    html = page.render(groups, blocks, comparisons, no_verdict, pictures, across, paper, choices)
    data = results(groups, blocks, comparisons, no_verdict, pictures, shared)
    files = {
        f"figures/{picture.file_name}.{ending}": content
        for picture in (*shared, *(picture for of_run in pictures.values() for picture in of_run.values()))
        for ending, content in (("svg", picture.svg), ("png", picture.png), ("csv", picture.csv))
        if content
    }
    files |= {f"figures/{section.sheet.file_name}.csv": section.sheet.csv for section in paper if section.sheet}
    files |= {DATA: as_json(data)}
    files |= {name: write(groups, blocks).encode() for name, write in TABLES.items()}
    _write(output, files | {PAGE: html.encode()})
    return output / PAGE


def _write(output: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files in their order, the page last; none of them if one has no place."""
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
    """Raises InputError where a file stands in the place of a folder, or a folder in that of a file."""
    for place in (output, *output.parents, output / FIGURES):
        # os.path says no where a Path raises, as for a name that is too long; making it will say why.
        if os.path.exists(place) and not os.path.isdir(place):
            raise InputError(f"output {place} is a file; expected a folder, or a new name for one")
    for name in files:
        if os.path.isdir(output / name):
            raise InputError(f"output {output / name} is a folder; a file of that name is to be written there")
