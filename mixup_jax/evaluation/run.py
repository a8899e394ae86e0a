"""The story of evaluating a run: checkpoint -> predictions of every data set -> evaluation.json."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from mixup_jax.config import Config, from_dict
from mixup_jax.data.arrays import Arrays, load_arrays, load_ood
from mixup_jax.data.augment import standardise
from mixup_jax.data.catalog import DatasetSpec, check_ood_name, dataset_spec
from mixup_jax.data.examples import load_examples
from mixup_jax.data.paths import default_data_dir
from mixup_jax.errors import InputError
from mixup_jax.evaluation.measure import SCHEMA, evaluate_records
from mixup_jax.evaluation.predict import make_predict
from mixup_jax.models import create_model
from mixup_jax.provenance import provenance
from mixup_jax.records import Predictions, save_predictions, write_json
from mixup_jax.training.checkpoint import Checkpoints
from mixup_jax.training.parallel import device_mesh
from mixup_jax.training.progress import duration
from mixup_jax.training.state import init_variables
from mixup_jax.training.workdir import CHECKPOINTS, EVALUATION_FILE, PREDICTIONS

ALWAYS = ("test", "validation")
"""The sets every evaluation needs: the one that is reported, and the one the temperature is fitted on."""


def evaluate_workdir(
    workdir: Path,
    *,
    datasets: tuple[str, ...] | None,
    checkpoint: str,
    data_dir: Path | None,
    force: bool,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluates a checkpoint and returns the evaluation, which is also written to `workdir`.

    Everything is taken from the checkpoint, its config too.  Each data set's predictions are saved as
    `predictions/<dataset>-<split>-<step>.npz` before any metric is computed.  If the folder holds an
    evaluation of this very checkpoint and these very sets, with its records, it is not done again.

    Args:
      workdir: of a run that has saved a checkpoint.
      datasets: "test", "validation" (these two are always evaluated) and names of
        out-of-distribution sets; None takes the sets that the config names.
      checkpoint: "last", "best" or the number of a step.
      data_dir: where data is prepared; tfds's own default if None.
      force: predict and measure again even if that has been done.
      report: takes a line for every data set that is predicted.

    Raises:
      InputError: no checkpoint, an unknown name, data that is not prepared, or a folder that cannot
        be written.
    """
    if not (workdir / CHECKPOINTS).is_dir():
        raise InputError(
            f"workdir {workdir} holds no checkpoint; expected a folder that `python -m mixup_jax.main` trained in"
        )
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        step = checkpoints.step_of(checkpoint)
        facts = checkpoints.restore_facts(step)
        config = from_dict(facts["config"])
        ood = _ood_names(config, datasets)
        chosen = checkpoint if checkpoint in ("last", "best") else str(step)
        known = None if force else _finished(workdir, step, facts["config"], ood)
        if known is not None:
            report(f"{workdir}: already evaluated (step {step}); --force does it again")
            return _relabelled(known, chosen, workdir)
        _check_writable(workdir)
        records = _predict_all(checkpoints, step, facts, ood, data_dir or default_data_dir(), report)
    report("measuring, with bootstrap intervals")
    for record in records.values():
        save_predictions(_record_path(workdir, record.name, step), record)
    evaluation = evaluate_records(
        records["test"],
        validation=records["validation"],
        ood={name: records[name] for name in ood},
        step=step,
        config=facts["config"],
    )
    evaluation = {**evaluation, "checkpoint": chosen, **provenance()}
    write_json(workdir / EVALUATION_FILE, evaluation)
    return evaluation


def _ood_names(config: Config, datasets: tuple[str, ...] | None) -> tuple[str, ...]:
    names = config.evaluation.ood if datasets is None else tuple(name for name in datasets if name not in ALWAYS)
    for name in names:
        check_ood_name(name, dataset_spec(config.data.name))
    return tuple(dict.fromkeys(names))


def _record_path(workdir: Path, name: str, step: int) -> Path:
    """Returns where the record called dataset/split is kept."""
    return workdir / PREDICTIONS / f"{name.replace('/', '-')}-{step}.npz"


def _check_writable(workdir: Path) -> None:
    """Finds out before the long work whether its results can be kept."""
    try:
        (workdir / PREDICTIONS).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"workdir {workdir} cannot be written ({error}); expected a folder of yours") from error
    if not os.access(workdir / PREDICTIONS, os.W_OK):
        raise InputError(f"{workdir / PREDICTIONS} cannot be written; expected a folder of yours")


def _finished(workdir: Path, step: int, config: dict[str, Any], ood: tuple[str, ...]) -> dict[str, Any] | None:
    """Returns the evaluation of this very checkpoint and these very sets, if it is there with its records."""
    try:
        evaluation = json.loads((workdir / EVALUATION_FILE).read_text())
        names = [*evaluation["results"], *(f"{name}/test" for name in evaluation["ood"])]
        same = (
            (evaluation["schema"], evaluation["step"], evaluation["config"]) == (SCHEMA, step, config)
            and set(evaluation["ood"]) == set(ood)
            and all(_record_path(workdir, name, step).is_file() for name in names)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: it is made anew
    return evaluation if same else None


def _relabelled(evaluation: dict[str, Any], chosen: str, workdir: Path) -> dict[str, Any]:
    """Returns an evaluation under the name by which its checkpoint was asked for this time."""
    if evaluation.get("checkpoint") != chosen:
        evaluation = {**evaluation, "checkpoint": chosen}
        write_json(workdir / EVALUATION_FILE, evaluation)
    return evaluation


def _predict_all(
    checkpoints: Checkpoints,
    step: int,
    facts: dict[str, Any],
    ood: tuple[str, ...],
    data_dir: Path,
    report: Callable[[str], None],
) -> dict[str, Predictions]:
    """Returns the predictions of every set, by the name it has in `datasets`."""
    config = from_dict(facts["config"])
    spec = dataset_spec(config.data.name)
    arrays = _load_sets(config, spec, ood, data_dir)
    mesh = device_mesh()
    model = create_model(config.model.name, classes=spec.classes, width=config.model.width, dtype=config.model.dtype)
    like = jax.eval_shape(partial(init_variables, model, image_shape=spec.shape), jax.random.key(0))
    variables = checkpoints.restore_variables(step, like, mesh)
    predict = make_predict(
        model, partial(standardise, mean=spec.mean, std=spec.std), mesh, batch_size=config.evaluation.batch_size
    )
    common = {"step": step, "seed": config.seed, "device_count": jax.device_count(), "config": facts["config"]}
    records: dict[str, Predictions] = {}
    start, done, total = time.monotonic(), 0, sum(len(data.labels) for data in arrays.values())
    report(f"predicting {total:,} examples of {len(arrays)} sets with the checkpoint of step {step}")
    for name, data in arrays.items():
        dataset, split = (spec.name, name) if name in ALWAYS else (name, "test")
        meta = {"dataset": dataset, "split": split, "source": data.source, **common, **provenance()}
        records[name] = Predictions(predict(variables, data.images), data.labels, meta)
        done += len(data.labels)
        remaining = (time.monotonic() - start) * (total - done) / done
        report(f"predicted {dataset}/{split}: {done:,} of {total:,} examples | ETA {duration(remaining)}")
    return records


def _load_sets(config: Config, spec: DatasetSpec, ood: tuple[str, ...], data_dir: Path) -> dict[str, Arrays]:
    validation = load_examples(config.data, data_dir).validation
    sets = {"test": load_arrays(spec.name, "test", data_dir), "validation": validation}
    return sets | {name: load_ood(name, like=spec, data_dir=data_dir) for name in ood}
