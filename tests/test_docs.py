"""What the documents promise is run, and the files they name are there."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.(?:py|sh|sbatch|json))`")
CITED = re.compile(r"`(tests/\w+\.py)(?:::(\w+))?`")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_the_python_examples_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {"step": 3, "images": np.ones((4, 8, 8, 1)), "one_hot_labels": np.eye(4)}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for example in examples:
            exec(compile(example, "README.md", "exec"), names)
    found = re.findall(r"ECE (0\.\d{4})", printed.getvalue())
    assert len(found) == 2
    assert found[0] == found[1]
    assert names["inputs"].shape == (4, 8, 8, 1)
    assert (tmp_path / "reliability.png").stat().st_size > 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]


def test_the_commands_of_the_readme_name_real_files():
    named = set(re.findall(r"\b(?:configs|docs|launch)/[\w./-]+\w", (ROOT / "README.md").read_text()))
    assert len(named) >= 5
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_test_that_a_document_cites_is_there():
    cited = {found for path in (ROOT / "docs").glob("*.md") for found in CITED.findall(path.read_text())}
    assert len(cited) > 10
    assert not [f"{file}::{name}" for file, name in cited if name and f"def {name}(" not in (ROOT / file).read_text()]
    assert all((ROOT / file).is_file() for file, _ in cited)


def test_a_list_stands_apart_from_the_text_before_it():
    # The site's Markdown takes it for a part of the paragraph otherwise.
    glued = re.compile(
        r"(?:^|\n\n|-->\n)(?![-|#<>`\s]|\d+\.|```)[^\n]+(?:\n(?![-|#<]|\d+\. )[^\n]+)*\n(?:- |\d+\. )[^\n]*"
    )
    written_once = "docs/results/settled/protocol.md"  # and never changed
    pages = [page for page in DOCUMENTS if str(page.relative_to(ROOT)) != written_once]
    assert not [(str(page), found) for page in pages for found in glued.findall(page.read_text())]


def test_every_file_that_a_page_names_is_there():
    invented = {"docs/errors.md", "docs/results/settled/protocol.md"}  # mistakes of users; what is never changed
    pages = [page for page in DOCUMENTS if str(page.relative_to(ROOT)) not in invented]
    named = {(str(page.relative_to(ROOT)), name) for page in pages for name in NAMED.findall(page.read_text())}
    assert len(named) > 50
    assert not [one for one in named if not any((base / one[1]).exists() for base in (ROOT, ROOT / "mixup_jax"))]
