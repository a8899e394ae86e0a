"""What mkdocs is told besides mkdocs.yml: pages that are made from elsewhere, and links that lead out of docs/."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PUBLISHED = {".css", ".md", ".png", ".svg"}
HOMES = {"index.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
"""Pages that are files beside docs/."""

REFERENCE = {
    "mixup_jax": ("mixup_jax",),
    "methods": ("mixup_jax.methods.method", "mixup_jax.methods.mixup", "mixup_jax.methods.losses"),
    "metrics": ("mixup_jax.metrics",),
    "evaluation": ("mixup_jax.evaluation.arrays", "mixup_jax.evaluation.measure", "mixup_jax.evaluation.scores"),
    "files": ("mixup_jax.runs.formats", "mixup_jax.runs.records"),
    "figures": ("mixup_jax.figures.reliability", "mixup_jax.figures.confidence"),
    "training": ("mixup_jax.config", "mixup_jax.training.step", "mixup_jax.training.loop", "mixup_jax.state"),
}
"""Pages of the API reference, and the modules whose docstrings they show."""

LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def doors() -> list[str]:
    """Returns the names of the commands, such as `mixup_jax.evaluate`."""
    package = ROOT / "mixup_jax"
    files = sorted([*package.glob("*.py"), *package.glob("*/*.py")])
    modules = [path.relative_to(ROOT).with_suffix("") for path in files if "run_command(main)" in path.read_text()]
    return [".".join(module.parts).removesuffix(".__main__") for module in modules]


def commands() -> str:
    """Returns the page of what every command's --help prints."""

    def help_of(door: str) -> str:
        command = [sys.executable, "-m", door, "--help"]
        environment = {**os.environ, "COLUMNS": "110", "TFDS_DATA_DIR": "~/tensorflow_datasets"}
        answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
        return f"## {door}\n\n```text\n{answer.stdout}```\n"

    with ThreadPoolExecutor() as pool:
        pages = list(pool.map(help_of, doors()))
    return "# Commands\n\nWhat each command's `--help` prints.\n\n" + "\n".join(pages)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made here, and leaves out the records of runs."""
    kept = [file for file in files if Path(file.src_uri).suffix in PUBLISHED or not _of_docs(file)]
    for page, source in HOMES.items():
        kept.append(File.generated(config, page, content=_from_root((ROOT / source).read_text())))
    kept.append(File.generated(config, "commands.md", content=commands()))
    for page, modules in REFERENCE.items():
        parts = "\n".join(f"::: {module}\n" for module in modules)
        kept.append(File.generated(config, f"api/{page}.md", content=f"# {page}\n\n{parts}"))
    return Files(kept)


def _of_docs(file: File) -> bool:
    return file.abs_src_path is not None and Path(file.abs_src_path).is_relative_to(DOCS)


def _from_root(text: str) -> str:
    """Returns a file's text with links as from docs/ instead of from the folder that holds it."""

    def moved(match: re.Match[str]) -> str:
        text, target, place = match.groups()
        outside = target not in HOMES.values() and "://" not in target
        return f"[{text}]({'../' if outside else ''}{target}{place or ''})"

    return LINK.sub(moved, text).replace("](../docs/", "](").replace("](docs/", "](")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Returns the page with the paths of files that the site does not hold in place of links; a wrong link fails."""
    folder = (DOCS / page.file.src_uri).parent
    repository = os.environ.get("REPOSITORY", "").rstrip("/")

    def shown(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        found = (folder / target).resolve()
        inside = found.is_relative_to(DOCS)
        if (inside and found.suffix in PUBLISHED) or not found.exists():
            return match[0]
        place = found.relative_to(ROOT).as_posix()
        return f"[{text}]({repository}/blob/main/{place})" if repository else f"{text} (`{place}`)"

    return LINK.sub(shown, markdown)
