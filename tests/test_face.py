"""What `import mixup_jax` offers, and what it loads for it."""

import ast
import doctest
import inspect
import json
import pydoc
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import mixup_jax
from mixup_jax.errors import InputError
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.runs.records import Predictions, save_predictions

ROOT = Path(__file__).parents[1]
HEAVY = {"jax", "numpy", "matplotlib", "tensorflow", "ml_collections", "numba", "scipy"}


def python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 80)
    return 2 * np.eye(4)[labels] + rng.normal(size=(80, 4)), labels


def test_every_name_and_no_other_is_offered_before_and_after_it_is_used():
    def offered() -> set[str]:
        return {name for name in dir(mixup_jax) if not name.startswith("__")}

    assert offered() == set(mixup_jax.__all__)
    for name in mixup_jax.__all__:
        assert inspect.getdoc(getattr(mixup_jax, name)), name
    assert offered() == set(mixup_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'mixpu'"):
        mixup_jax.mixpu  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "mixup_jax" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert imported == set(mixup_jax.__all__)


@pytest.mark.parametrize(
    ("use", "loaded"),
    [
        ("", set()),
        ("mixup_jax.metrics", {"numpy"}),
        ("mixup_jax.load_predictions; mixup_jax.save_predictions; mixup_jax.evaluate", {"numpy"}),
        ("mixup_jax.reliability_diagram; mixup_jax.confidence_histogram", {"numpy", "matplotlib"}),
    ],
)
def test_nothing_is_loaded_until_it_is_used(use: str, loaded: set[str]):
    assert set(python(f"import sys, mixup_jax\n{use}\nprint(*({HEAVY!r} & sys.modules.keys()))").split()) == loaded


def test_help_begins_with_a_page_whose_examples_run():
    page = pydoc.plain(pydoc.render_doc(mixup_jax))
    assert all(name in page for name in mixup_jax.__all__)
    assert page.index(">>> import mixup_jax") < page.index("PACKAGE CONTENTS")
    assert doctest.testmod(mixup_jax).failed == 0


ONE = "import numpy as np; logits, labels = 4 * np.eye(3), np.arange(3)\n"


@pytest.mark.parametrize(
    "imports",
    [
        "import mixup_jax",
        "import mixup_jax, mixup_jax.evaluate",
        "import mixup_jax.evaluate; import mixup_jax",
        "import mixup_jax\nfrom mixup_jax.evaluate import main",
        "import mixup_jax\nmixup_jax.evaluate\nimport importlib; importlib.import_module('mixup_jax.evaluate')",
        "import mixup_jax\nfrom mixup_jax import evaluate\nmixup_jax.evaluate = evaluate",
    ],
)
def test_evaluate_is_a_function_whatever_was_imported(imports: str):
    call = "print(mixup_jax.evaluate(logits, labels)['results']['test']['accuracy'])"
    assert python(f"{ONE}{imports}\n{call}") == "1.0\n"


def test_evaluate_has_the_signature_and_the_help_of_its_function():
    assert list(inspect.signature(mixup_jax.evaluate).parameters)[:2] == ["logits", "labels"]
    assert mixup_jax.evaluate.__doc__.startswith("Returns the evaluation of one network's logits")


def test_evaluate_is_still_a_command(tmp_path: Path):
    save_predictions(tmp_path / "p.npz", Predictions(4 * np.eye(3), np.arange(3)))
    command = [sys.executable, "-m", "mixup_jax.evaluate", f"--predictions={tmp_path / 'p.npz'}"]
    assert "written: " in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads((tmp_path / "p.evaluation.json").read_text())["results"]["p"]["accuracy"] == 1


def test_evaluate_takes_arrays_records_and_paths_alike(arrays, tmp_path: Path):
    logits, labels = arrays
    record, other = Predictions(logits, labels), Predictions(logits[::-1] * 0.5, labels[::-1])
    noise = Predictions(logits * 0.1, np.full(80, -1))
    expected = evaluate_records(record, validation=other, ood={"noise": noise}, posthoc=("vector_scaling",))
    expected["numbers"] = {"taken_for": "logits", "stated": False}
    for name, each in {"test": record, "validation": other, "noise": noise}.items():
        save_predictions(tmp_path / f"{name}.npz", each)
    options = {"posthoc": ("vector_scaling",)}
    for test, validation, ood in (
        ((logits, labels), (other.logits, other.labels), noise.logits),
        ((record,), other, noise),
        ((str(tmp_path / "test.npz"),), tmp_path / "validation.npz", tmp_path / "noise.npz"),
    ):
        assert mixup_jax.evaluate(*test, validation=validation, ood={"noise": ood}, **options) == expected


def test_evaluate_takes_bfloat16_and_probabilities(arrays):
    logits, labels = arrays
    narrow = jnp.asarray(logits, jnp.bfloat16)
    wide = np.asarray(narrow.astype(jnp.float32))
    assert mixup_jax.evaluate(narrow, jnp.asarray(labels)) == mixup_jax.evaluate(wide, labels)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = mixup_jax.evaluate(shares, labels, probabilities=True)["results"]["test"]["nll"]
    assert right == pytest.approx(mixup_jax.evaluate(logits, labels)["results"]["test"]["nll"])


def test_evaluate_refuses_what_it_cannot_know(arrays):
    logits, labels = arrays
    with pytest.raises(InputError, match="labels are missing"):
        mixup_jax.evaluate(logits)
    with pytest.raises(InputError, match="labels given with a record"):
        mixup_jax.evaluate(Predictions(logits, labels), labels)
    with pytest.raises(InputError, match="is the test record"):
        mixup_jax.evaluate(logits, labels, validation=(logits, labels))
