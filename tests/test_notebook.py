"""The notebook runs from its first cell to its last, and shows the report."""

import os
import shutil
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "launch" / "colab.ipynb"
SETTINGS = {
    "epochs": 1,
    "batch_size": 40,
    "tensorboard": False,
    "data.train_examples": 200,
    "data.validation_examples": 40,
    "model.width": 2,
    "method.group_size": 5,
    "evaluation.every_epochs": 1,
    "evaluation.ood": "mnist",
}


def test_the_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_the_notebook_installs_trains_evaluates_and_shows_the_report(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # pip builds in the folder it is given, and is told to need no network and to leave the environment as it is.
    checkout = tmp_path / "checkout"
    for name in ("mixup_jax", "configs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    installed = tmp_path / "installed"
    environment = {
        "MIXUP_JAX_SOURCE": str(checkout),
        "MIXUP_JAX_SETTINGS": " ".join(f"--config.{key}={value}" for key, value in SETTINGS.items()),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads "0" as: no build isolation
        "PIP_TARGET": str(installed),
        "PYTHONPATH": f"{installed}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "TFDS_DATA_DIR": str(data_dir),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # one device: its programs are compiled sooner
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.get("text", "") for output in texts)
    assert "This machine has a CPU." in printed
    assert (installed / "mixup_jax" / "__init__.py").exists()
    assert "ECE 0." in printed  # of logits in a file
    shown = [output["data"] for output in texts if output.output_type == "execute_result"]
    assert "| mixup | " in shown[0]["text/markdown"]
    assert "&lt;!doctype html&gt;" in shown[1]["text/html"].lower()
    assert (tmp_path / "runs" / "colab" / "report" / "index.html").exists()
