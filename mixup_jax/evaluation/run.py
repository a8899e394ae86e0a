"""Evaluates a checkpoint: predicts every data set, saves the records, measures them and writes evaluation.json."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mixup_jax import metrics
from mixup_jax.config import Config, from_dict
from mixup_jax.data.cache import default_data_dir
from mixup_jax.data.catalog import check_ood_name
from mixup_jax.data.load import TrainingData, check_same_data, load_ood, load_test, load_training_data, run_spec
from mixup_jax.data.own import record_name
from mixup_jax.data.sets import DatasetSpec, ExampleSet
from mixup_jax.devices.processes import by_first, is_first
from mixup_jax.errors import InputError
from mixup_jax.escapes import print_line
from mixup_jax.evaluation.extras import EXTRAS
from mixup_jax.evaluation.measure import SCHEMA, evaluate_records
from mixup_jax.metrics.measuring import separation
from mixup_jax.prediction.predict import OWN_SPLITS, Network, predict_records, restore, training_features
from mixup_jax.prediction.variants import ODIN_TEMPERATURE, Derivation, with_odin
from mixup_jax.runs.files import parse, read_bytes, write_json
from mixup_jax.runs.pictures import pictures_of, save_pictures
from mixup_jax.runs.records import save_predictions
from mixup_jax.runs.workdir import (
    CONFIG_FILE,
    EVALUATION_FILE,
    PREDICTIONS,
    check_derived,
    check_own,
    provenance,
    record_path,
    require_checkpoints,
    require_writable,
)
from mixup_jax.store.checkpoint import Checkpoints

PLAIN = Derivation()


def evaluate_workdir(
    workdir: Path,
    *,
    datasets: tuple[str, ...] | None,
    checkpoint: str,
    data_dir: Path | None,
    force: bool,
    odin: bool = False,
    features: bool = False,
    extra: Sequence[str] = (),
    derivation: Derivation = PLAIN,
    save_as: Path | None = None,
    report: Callable[[str], None] = print_line,
) -> dict[str, Any] | None:
    """Evaluates a checkpoint and returns the evaluation, which is also written to `workdir` or to `save_as`.

    Several processes predict together; only the first measures and writes, and the others return None.

    Everything is read from the checkpoint, including the config.  The predictions of each data set are saved as
    `predictions/<dataset>-<split>-<step>.npz` before any metric is computed.  If the folder already holds an
    evaluation of the same checkpoint and the same sets, with its records, that is returned.

    Args:
      workdir: of a run that has saved a checkpoint.
      datasets: "test", "validation" (these two are always evaluated) and names of
        out-of-distribution sets; None takes the sets that the config names.
      checkpoint: "last", "best" or the number of a step.
      data_dir: where data is prepared; tfds's own default if None.
      force: predict and measure again even if that has been done.
      odin: also score with ODIN (Liang et al. 2018), which takes a gradient for every image.
      features: keep penultimate features in the records, and score by them too; those of `evaluation.train_features`
        training examples are kept in the test record.
      extra: further analyses, of `extras.EXTRAS`.
      derivation: another way of predicting than that of training; its records are those of another run, so it
        takes a `save_as`.
      save_as: the folder to write instead of `workdir`, with a config.json that says what was done.
      report: takes a line for every data set that is predicted.

    Raises:
      InputError: no checkpoint, an unknown name, data that is not prepared, or a folder that cannot
        be written or is that of another run.
    """
    report, data_dir, target = by_first(report), data_dir or default_data_dir(), save_as or workdir
    with Checkpoints(require_checkpoints(workdir), read_only=True, report=report) as checkpoints:
        step = checkpoints.step_of(checkpoint)
        facts = checkpoints.restore_facts(step)
        recorded = check_own(workdir, step, facts["config"])
        config = from_dict(recorded)
        spec = run_spec(config.data, data_dir, report)
        if odin and spec.task == "text":
            raise InputError(f"--odin takes a small step in the pixels; {config.data.name} is text, which has none")
        ood = _ood_names(config, datasets, spec)
        derivation.check(config)
        shown_config = derivation.config(recorded, workdir.name)
        if save_as is not None:
            check_derived(save_as, shown_config)
        asked_for = checkpoint if checkpoint in ("last", "best") else str(step)
        done = None if force else _finished(target, step, shown_config, ood)
        asked_too = [part for part, wanted in (("odin", odin), ("features", features)) if wanted]
        if done is not None and all(part in done for part in asked_too) and _has_extras(done, extra):
            report(f"{target}: already evaluated (step {step}); --force does it again")
            return _relabelled(done, asked_for, target) if is_first() else None
        require_writable(target / PREDICTIONS)
        examples = load_training_data(config.data, data_dir, spec)
        check_same_data(examples, facts, workdir)
        network = restore(checkpoints, step, config, examples.vocabulary, data_dir, spec)

    sets = _load_sets(config, spec, examples, ood, data_dir)
    report(f"predicting {len(sets)} sets with the checkpoint of step {step}")
    made_by = provenance()
    meta = {"step": step, "seed": config.seed, "device_count": jax.device_count(), "config": shown_config, **made_by}
    derived = derivation.apply(network, data_dir, report)
    records = predict_records(derived, sets, meta, report, features=features)
    if features:
        train = _some(examples.train, config.evaluation.train_features)
        training = training_features(derived, train, meta, report)
        records |= {name: replace(record, training=training) for name, record in records.items() if name == "test"}
    if not is_first():
        return None
    for record in records.values():
        save_predictions(record_path(target, record.name, step), record)
    report("measuring, with bootstrap intervals")
    evaluation = evaluate_records(
        records["test"],
        validation=records["validation"],
        ood={name: records[name] for name in ood},
        step=step,
        config=shown_config,
        extra=extra,
        features=features,
        near=[name for name in map(record_name, config.evaluation.ood_near) if name in ood],
    )
    pictures = pictures_of(records, {name: data.inputs for name, data in sets.items()}, step)
    if pictures is not None:
        save_pictures(target, pictures)
    if odin:
        evaluation = _add_odin(evaluation, network, sets, meta, target, report)
    evaluation |= {"checkpoint": asked_for, "training_seconds": facts.get("training_seconds"), **made_by}
    if save_as is not None:
        write_json(target / CONFIG_FILE, shown_config)
    write_json(target / EVALUATION_FILE, evaluation)
    return evaluation


def _ood_names(config: Config, datasets: tuple[str, ...] | None, spec: DatasetSpec) -> dict[str, str]:
    """Returns the out-of-distribution sets to evaluate, by their names in records."""
    names = config.evaluation.ood if datasets is None else tuple(name for name in datasets if name not in OWN_SPLITS)
    for name in names:
        check_ood_name(name, spec)
    return {record_name(name): name for name in names}


def _finished(workdir: Path, step: int, config: dict[str, Any], ood: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the existing evaluation of the same checkpoint and the same sets, if it and its records exist."""
    try:
        evaluation = parse(read_bytes(workdir / EVALUATION_FILE))
        names = [*evaluation["results"], *(f"{name}/test" for name in evaluation["ood"])]
        same = (
            (evaluation["schema"], evaluation["step"], evaluation["config"]) == (SCHEMA, step, config)
            and set(evaluation["ood"]) == set(ood)
            and all(record_path(workdir, name, step).is_file() for name in names)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: evaluate again
    return evaluation if same else None


def _has_extras(evaluation: Mapping[str, Any], extra: Sequence[str]) -> bool:
    tests = [entry for name, entry in evaluation["results"].items() if name.endswith("/test")]
    results = all(name in entry.get("extra", {}) for entry in tests for name in extra if name in EXTRAS)
    foreign = evaluation["ood"].values()
    return results and all(name in entry["scores"] for entry in foreign for name in extra if name not in EXTRAS)


def _relabelled(evaluation: dict[str, Any], asked_for: str, workdir: Path) -> dict[str, Any]:
    """Returns an evaluation with the checkpoint named as it was requested this time ("last", "best" or a step)."""
    if evaluation.get("checkpoint") != asked_for:
        evaluation = {**evaluation, "checkpoint": asked_for}
        write_json(workdir / EVALUATION_FILE, evaluation)
    return evaluation


def _load_sets(
    config: Config, spec: DatasetSpec, examples: TrainingData, ood: Mapping[str, str], data_dir: Path
) -> dict[str, ExampleSet]:
    encoder, like = examples.encoder, spec.sized(config.data.image_size)
    sets = {"test": load_test(config.data, data_dir, encoder, spec), "validation": examples.validation}
    outside = {name: load_ood(full, like=like, data_dir=data_dir, encoder=encoder) for name, full in ood.items()}
    return sets | {name: _some(data, config.evaluation.ood_examples) for name, data in outside.items()}


def _some(data: ExampleSet, n: int) -> ExampleSet:
    """Returns n examples of a set, the same for every run; all if n is 0 or the set is not larger."""
    if not 0 < n < len(data.labels):
        return data
    # Drawn at random, because a set may be ordered by class.
    rows = np.sort(np.random.default_rng(0).permutation(len(data.labels))[:n])
    return data.part(rows, f"{data.source}; {n} of {len(data.labels)} examples")


def _add_odin(
    evaluation: dict[str, Any],
    network: Network,
    sets: Mapping[str, ExampleSet],
    meta: Mapping[str, Any],
    target: Path,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Saves ODIN's records, and returns the evaluation with ODIN's scores for every out-of-distribution set."""
    report("choosing the step of ODIN on validation images")
    network, epsilon = with_odin(network, sets["validation"])
    settings = {"temperature": ODIN_TEMPERATURE, "epsilon": epsilon}
    scored = {name: sets[name] for name in ("test", *evaluation["ood"])}
    records = predict_records(network, scored, {**meta, "odin": settings}, report)
    for record in records.values():
        save_predictions(record_path(target, f"{record.name}-odin", meta["step"]), record)
    inside = metrics.msp_score(records["test"].logits)
    ood = {}
    for name, entry in evaluation["ood"].items():
        scores = separation(inside, metrics.msp_score(records[name].logits))
        ood[name] = entry | {"scores": entry["scores"] | {"odin": scores}}
    return evaluation | {"ood": ood, "odin": {**settings, "epsilon_chosen_on": "validation"}}
