"""The results that the project keeps: logits and labels of networks that somebody else has trained."""

import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixup_jax.errors import InputError
from mixup_jax.runs.files import parse
from mixup_jax.runs.records import Predictions, load_record
from mixup_jax.runs.workdir import CONFIG_FILE, EVALUATION_FILE, PREDICTIONS

CHECKOUT = Path(__file__).parents[2] / "docs" / "results"

AnyPath = Path | zipfile.Path


@dataclass(frozen=True)
class KeptRun:
    """What is kept of one run.

    Attributes:
      config: settings of the run, as in its config.json.
      evaluation: its evaluation.json; None where the logits alone are kept.
      names: of its records, as `DATASET-SPLIT-STEP`, sorted.
    """

    config: dict[str, Any]
    evaluation: dict[str, Any] | None
    names: tuple[str, ...]
    _folder: AnyPath

    def record(self, name: str) -> Predictions:
        """Returns the record of a data set, such as `mnist/test`: of the last step that is kept.

        Args:
          name: `DATASET/SPLIT`, or one of `names` for a certain step.

        Raises:
          InputError: there is no such record, or it is damaged.
        """
        wanted = name.replace("/", "-")
        parts = [(*each.rpartition("-")[::2], each) for each in self.names]
        of_set = {int(step): each for name, step, each in parts if name == wanted and step.isdecimal()}
        file = wanted if wanted in self.names else of_set[max(of_set)] if of_set else None
        if file is None:
            raise InputError(f"{self._folder} has no record {name!r}; expected one of {', '.join(self.names)}")
        return _load(self._folder / PREDICTIONS / f"{file}.npz")


def load_results(name: str, source: str | os.PathLike[str] | None = None) -> dict[str, KeptRun]:
    """Returns the kept runs of one folder of results by their names, sorted; records are read when asked for.

    Args:
      name: of the folder, such as `settled` or `mr`; docs/results/README.md says what each one is.
      source: a folder like docs/results, or the archive that `make results` writes.  By default docs/results of
        the checkout that the package was imported from.

    Raises:
      InputError: there is no such source, or no such folder in it.
    """
    root = _root(CHECKOUT if source is None else Path(source))
    there = {each.name: each for each in root.iterdir() if each.is_dir()}
    if name not in there:
        raise InputError(f"results {name!r} are not in {root}; expected one of {', '.join(sorted(there)) or 'none'}")
    runs = [run for run in there[name].iterdir() if run.is_dir() and (run / CONFIG_FILE).is_file()]
    return {run.name: _kept(run) for run in sorted(runs, key=lambda run: run.name)}


def _root(source: Path) -> AnyPath:
    if source.is_dir():
        return source
    if source.is_file() and zipfile.is_zipfile(source) and (found := zipfile.Path(source, "docs/results/")).exists():
        return found
    raise InputError(
        f"results {source} are neither a folder nor a .zip; expected docs/results of a checkout, "
        "or the archive that `make results` writes there"
    )


def _kept(run: AnyPath) -> KeptRun:
    evaluation = run / EVALUATION_FILE
    folder = run / PREDICTIONS
    files = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    return KeptRun(
        _parsed(run / CONFIG_FILE),
        _parsed(evaluation) if evaluation.is_file() else None,
        tuple(sorted(file.removesuffix(".npz") for file in files if file.endswith(".npz"))),
        run,
    )


def _parsed(file: AnyPath) -> Any:
    try:
        return parse(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file} cannot be read ({error}); expected the whole file of a run") from error


def _load(file: AnyPath) -> Predictions:
    if isinstance(file, Path):
        return load_record(file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes())
        return load_record(copy)
