"""The floors of docs/architecture.md, held against the imports of every module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mixup_jax"

FLOORS = {
    "escapes": 0,
    "errors": 0,
    "environment": 0,
    "allocator": 0,
    "compilation": 0,
    "cluster": 0,
    "command": 0,
    "arrays_file": 0,
    "json_file": 0,
    "records": 0,
    "formats": 0,
    "method": 0,
    "config": 0,
    "config_file": 0,
    "grid": 0,
    "provenance": 0,
    "heartbeat": 0,
    "quiet_tensorflow": 0,
    "mixup": 1,
    "losses": 1,
    "metrics": 1,
    "models": 2,
    "data": 2,
    "training.workdir": 2,
    "report.figures": 2,
    "training": 3,
    "evaluation.measure": 3,
    "evaluation.predict": 3,
    "evaluation.batch_norm": 3,
    "evaluation.separation": 3,
    "evaluation.recalibration": 3,
    "evaluation.ensemble": 3,
    "evaluation.odin": 3,
    "evaluation.table": 3,
    "evaluation.export": 3,
    "evaluation": 4,
    "training.loop": 4,
    "training.run": 4,
    "training.ahead": 4,
    "report": 4,
    "main": 5,
    "evaluate": 5,
    "sweep": 5,
    "checkpoints": 5,
    "compile_ahead": 5,
}

HOMES = {
    "tensorflow": ("quiet_tensorflow",),
    "tensorflow_datasets": ("data",),
    "clu": ("training.metrics_log",),
    "orbax": ("training.checkpoint", "training.storage", "training.stored"),
    "matplotlib": ("report",),
    "grain": ("data.stream",),
    "ml_collections": ("config", "config_file"),
    "numba": ("metrics.compiling", "metrics.compiled_cells", "metrics.compiled_softmax", "models.kernels"),
    "llvmlite": ("models.kernels",),
}

NUMPY_ONLY = (
    "escapes",
    "errors",
    "json_file",
    "arrays_file",
    "records",
    "formats",
    "metrics",
    "evaluation.measure",
    "evaluation.separation",
    "evaluation.recalibration",
    "evaluation.ensemble",
    "evaluation.table",
    "evaluation.export",
    "report",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("__init__", "__main__"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file, but for type checking."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def floor(name: str) -> int:
    best = max((entry for entry in FLOORS if within(name, entry)), key=len, default=None)
    assert best is not None, f"{name} stands on no floor: give it one in docs/architecture.md and here"
    return FLOORS[best]


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if module_name(path)}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_lower_floors_or_its_own(name: str):
    for imported in imports(MODULES[name]):
        if not within(imported, "mixup_jax") or imported == "mixup_jax":
            continue
        target = imported.removeprefix("mixup_jax.")
        if target.partition(".")[0] == name.partition(".")[0] or target == "__version__":
            continue
        assert floor(target) < floor(name) or floor(target) == floor(name) == 0, f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, "report.figures")])
def test_figures_stand_below_the_rest_of_the_report(name: str):
    own = {imported for imported in imports(MODULES[name]) if within(imported, "mixup_jax.report")}
    assert all(within(imported, "mixup_jax.report.figures") for imported in own)


@pytest.mark.parametrize("name", MODULES)
def test_each_heavy_package_has_one_home(name: str):
    roots = {imported.partition(".")[0] for imported in imports(MODULES[name])}
    for package, homes in HOMES.items():
        if package in roots:
            assert any(within(name, home) for home in homes), f"{name} imports {package}"


@pytest.mark.parametrize("name", [name for name in MODULES if any(within(name, part) for part in NUMPY_ONLY)])
def test_what_reads_records_needs_no_jax(name: str):
    roots = {imported.partition(".")[0] for imported in imports(MODULES[name])}
    assert not roots & {"jax", "flax", "optax", "orbax", "tensorflow"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("from mixup_jax import metrics", {"jax", "tensorflow", "matplotlib", "scipy", "numba"}),
        ("from mixup_jax import mixup, metrics", {"tensorflow", "tensorflow_datasets", "clu", "matplotlib"}),
        ("import mixup_jax.training.loop", {"tensorflow", "matplotlib"}),
        ("import mixup_jax.report.__main__", {"jax", "tensorflow"}),
    ],
)
def test_an_import_brings_in_no_more_than_it_says(statement: str, absent: set[str]):
    script = f"{statement}\nimport sys\nprint(*({absent!r} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not answer.stdout.split()
