"""The pages of the documentation site that are made from elsewhere, and its links."""

import importlib.util
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("mkdocs")
ROOT = Path(__file__).parents[1]
SITE = runpy.run_path(str(ROOT / ".ci" / "site_pages.py"))


def test_every_module_of_the_reference_is_there():
    assert not [name for names in SITE["REFERENCE"].values() for name in names if not importlib.util.find_spec(name)]


def test_every_command_has_its_help():
    assert {"mixup_jax.main", "mixup_jax.evaluate", "mixup_jax.report", "mixup_jax.data"} <= set(SITE["doors"]())


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[Data](data.md#formats)", "[Data](data.md#formats)"),
        ("[own](../configs/own.py)", "own (`configs/own.py`)"),
        ("[gone](gone.md)", "[gone](gone.md)"),  # left for mkdocs to refuse
        ("[runs](results/mr)", "runs (`docs/results/mr`)"),
    ],
)
def test_links_that_leave_the_site_become_paths(link, shown):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="metrics.md"))
    assert SITE["on_page_markdown"](link, page) == shown


def test_links_of_the_readme_lead_from_the_home_page():
    text = SITE["_from_root"]("[a](docs/data.md#x) ![b](docs/images/report.png) [c](LICENSE) [d](CONTRIBUTING.md)")
    assert text == "[a](data.md#x) ![b](images/report.png) [c](../LICENSE) [d](CONTRIBUTING.md)"
