"""The floors of docs/architecture.md, held against the imports of every module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mixup_jax"

FLOORS = (
    ("errors", "escapes", "environment", "libraries", "command", "progress", "state"),
    ("devices",),
    ("methods", "metrics"),
    ("config", "config_file", "recipes", "grid", "cpu_convolution"),
    ("runs", "models"),
    ("data", "store", "figures"),
    ("prediction",),
    ("training", "evaluation", "report"),
    ("ahead",),
    ("main", "evaluate", "compare", "predict", "export", "sweep", "checkpoints", "compile_ahead"),
)
"""From the ground up: folders, and the modules beside them, which may import each other within a floor."""

HOMES = {
    "tensorflow": ("libraries",),
    "tensorflow_datasets": ("data",),
    "clu": ("training.trackers",),
    "wandb": ("training.trackers",),
    "mlflow": ("training.trackers",),
    "orbax": ("store",),
    "matplotlib": ("figures", "report"),
    "grain": ("data.stream",),
    "ml_collections": ("config", "config_file", "recipes"),
    "numba": (
        *("metrics.compiling", "metrics.compiled", "cpu_convolution"),
        *(
            "metrics.compiled_classes",
            "metrics.compiled_features",
            "metrics.compiled_losses",
            "metrics.compiled_order",
            "metrics.compiled_resamples",
        ),
    ),
    "llvmlite": ("cpu_convolution",),
}

NUMPY_ONLY = (
    "escapes",
    "errors",
    "metrics",
    "runs.records",
    "runs.formats",
    "runs.tables",
    "runs.torch_file",
    "runs.files",
    "runs.arrays_file",
    "figures",
    "evaluation.measure",
    "evaluation.by_image",
    "evaluation.scores",
    "evaluation.recalibration",
    "evaluation.ensemble",
    "evaluation.arrays",
    "evaluation.modes",
    "evaluation.export",
    "report",
    "compare",
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
    place = name.partition(".")[0]
    assert any(place in places for places in FLOORS), (
        f"{name} has no floor: give it one in docs/architecture.md and here"
    )
    return next(number for number, places in enumerate(FLOORS) if place in places)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if module_name(path)}


@pytest.mark.parametrize("name", MODULES)
def test_a_folder_imports_only_from_lower_floors(name: str):
    own = name.partition(".")[0]
    for imported in imports(MODULES[name]):
        place = imported.removeprefix("mixup_jax.").partition(".")[0]
        if not within(imported, "mixup_jax") or imported == "mixup_jax" or place in (own, "__version__"):
            continue
        modules = all((PACKAGE / f"{each}.py").is_file() for each in (place, own))
        assert floor(place) < floor(own) or (modules and floor(place) == floor(own)), f"{name} imports {imported}"


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
        (
            "from mixup_jax import metrics\nfrom mixup_jax.methods import mixup",
            {"tensorflow", "tensorflow_datasets", "clu", "matplotlib"},
        ),
        ("import mixup_jax.training.loop", {"tensorflow", "matplotlib"}),
        ("import mixup_jax.report.__main__", {"jax", "tensorflow"}),
    ],
)
def test_an_import_brings_in_no_more_than_it_says(statement: str, absent: set[str]):
    script = f"{statement}\nimport sys\nprint(*({absent!r} & sys.modules.keys()))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not answer.stdout.split()
