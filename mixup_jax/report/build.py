"""From run folders to a folder with the report: read, check, compute, draw, write, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mixup_jax.errors import InputError
from mixup_jax.records import write_atomically, write_json
from mixup_jax.report import overview, page, tables, wording
from mixup_jax.report.choices import Choices
from mixup_jax.report.comparisons import make_comparisons
from mixup_jax.report.groups import make_groups
from mixup_jax.report.pictures import largest_share, pictures_of, smallest_share
from mixup_jax.report.quantities import ood_names, sections
from mixup_jax.report.results import results
from mixup_jax.report.runs import load_runs


def build_report(folders: Sequence[str | Path], output: str | Path) -> Path:
    """Writes the report about finished runs and returns the path of its index.html.

    Into `output` go index.html, results.json, table.md, table.tex, table.csv and figures/*.svg and
    *.png; files of those names are replaced, others are left alone.  The same runs give the same
    bytes.  Nothing is written unless every run could be read and agrees with its records.

    Args:
      folders: run folders, evaluated by `mixup_jax.evaluate`.
      output: the folder to write to; it is created where needed.

    Raises:
      InputError: a run cannot be used (see `runs.load_runs`, `groups.make_groups`), or `output` is
        a file.
    """
    output = Path(output)
    for place in (output, *output.parents, output / "figures"):
        if place.exists() and not place.is_dir():
            raise InputError(f"output {place} is a file; expected a folder, or a new name for one")
    runs = load_runs(folders)
    groups = make_groups(runs)
    blocks = sections(ood_names(runs))
    comparisons, no_verdict = make_comparisons(groups)
    choices = Choices(groups)
    across = page.Overview(
        overview.risk_coverage_picture(groups, choices),
        overview.spread_pictures(groups, choices),
        overview.sweep_pictures(groups, choices),
    )
    taken = {picture.file_name for picture in across.pictures}
    top, bottom = 1.05 * largest_share(runs), smallest_share(runs)
    ood_tokens = {name: choices.of_ood(name) for name in ood_names(runs)}
    pictures = {
        name: pictures_of(run, name, wording.slug(name, taken), top=top, bottom=bottom, ood_tokens=ood_tokens)
        for group in groups
        for run in group.runs
        for name in [group.run_name(run)]
    }
    html = page.render(groups, blocks, comparisons, no_verdict, pictures, across, choices)
    for picture in (*across.pictures, *(picture for of_run in pictures.values() for picture in of_run.values())):
        write_atomically(output / "figures" / f"{picture.file_name}.svg", picture.svg)
        write_atomically(output / "figures" / f"{picture.file_name}.png", picture.png)
    write_json(output / "results.json", results(groups, blocks, comparisons, no_verdict, pictures, across.pictures))
    write_atomically(output / "table.md", tables.markdown_table(groups, blocks).encode())
    write_atomically(output / "table.tex", tables.latex_table(groups, blocks).encode())
    write_atomically(output / "table.csv", tables.csv_table(groups, blocks).encode())
    index = output / "index.html"
    write_atomically(index, html.encode())
    return index
