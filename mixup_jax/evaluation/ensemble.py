"""Several records of the same examples as one: an ensemble of runs, or samples of Monte Carlo dropout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixup_jax.errors import InputError
from mixup_jax.escapes import is_file_name, print_line
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.metrics.analyses import Disagreement
from mixup_jax.metrics.logits import blocks
from mixup_jax.metrics.softmax import Floats, log_softmax
from mixup_jax.runs.files import parse, read_bytes, write_json
from mixup_jax.runs.records import Predictions, load_record, save_predictions
from mixup_jax.runs.workdir import (
    CONFIG_FILE,
    DERIVED,
    EVALUATION_FILE,
    check_derived,
    provenance,
    record_path,
    setting_that_differs,
)


def mean_of_records(records: Sequence[Predictions]) -> Predictions:
    """Returns the record of the mean of the members' probabilities, `log(1/M sum_m softmax(z_m))`.

    It is computed in the log domain, so that no probability underflows.  The resulting logits are log-probabilities:
    MSP and entropy are those of the mean, but energy and max logit are meaningless.

    Returns:
      float64 logits, held in memory; meta: what all members agree on (but no `step`), `members`, M, and
      `ensemble`, the `ensemble_disagreement` of more than one.
    """
    if not records:
        raise InputError("an ensemble of 0 records; expected at least one")
    first = records[0]
    for number, record in enumerate(records[1:], start=2):
        if record.logits.shape != first.logits.shape or not np.array_equal(record.labels, first.labels):
            raise InputError(
                f"member {number} of the ensemble has other examples than member 1 (logits {list(record.logits.shape)} "
                f"and {list(first.logits.shape)}, or other labels); expected the same ones in the same order"
            )
    shared = {
        key: value
        for key, value in first.meta.items()
        if key != "step" and all(record.meta.get(key) == value for record in records)
    }
    logits: Floats = np.empty(first.logits.shape)
    differences = Disagreement()
    for rows in blocks(*first.logits.shape):
        members = np.stack([log_softmax(record.logits[rows]) for record in records])
        logits[rows] = _log_mean(members)
        if len(records) > 1:
            differences.add(members)
    meta = {**shared, "members": len(records)}
    if len(records) > 1:
        meta["ensemble"] = differences.means()
    return Predictions(logits, first.labels, meta, groups=first.groups)


def _log_mean(log_probabilities: Floats) -> Floats:
    """Returns log(mean(exp(.))) over the first axis; -inf where it is -inf for every member."""
    largest = log_probabilities.max(axis=0)
    offset = np.where(np.isneginf(largest), 0.0, largest)
    with np.errstate(divide="ignore"):
        mean: Floats = np.log(np.exp(log_probabilities - offset).mean(axis=0)) + offset
    return mean


def evaluate_ensemble(members: Sequence[Path], save_as: Path) -> dict[str, Any]:
    """Evaluates the mean of the probabilities of several runs and returns the evaluation, written to `save_as`.

    This is a deep ensemble (Lakshminarayanan et al., NeurIPS 2017), p = 1/M sum_m softmax(f_m(x)), of runs with one
    config and different seeds.  It needs only their records.  The sets are those on which all members were evaluated;
    the temperature is fitted on the ensemble's validation record.  Seed and step are those of the first member.
    """
    if len(members) < 2:
        raise InputError(f"--ensemble names {len(members)} run; expected at least two run folders, such as A1,A2,A3")
    evaluations = [_evaluation(member) for member in members]
    _check_alike(members, evaluations)
    first = evaluations[0]
    config = first["config"]
    experiment = f"{config.get('experiment') or members[0].name}+ensemble{len(members)}"
    config = {**config, "experiment": experiment, DERIVED: {**config.get(DERIVED, {}), "ensemble": len(members)}}
    check_derived(save_as, config)
    pairs, made_by = list(zip(members, evaluations, strict=True)), provenance()
    origin = [{"run": str(member), "seed": one["config"].get("seed"), "step": one["step"]} for member, one in pairs]
    meta = {"step": first["step"], "seed": config.get("seed"), "config": config, "runs": origin, **made_by}
    test, validation = _test_and_validation(first)
    records = {}
    for name in _shared_sets(evaluations):
        mean = mean_of_records([load_record(record_path(member, name, one["step"])) for member, one in pairs])
        records[name] = Predictions(mean.logits.astype("float32"), mean.labels, mean.meta | meta)
    for name, record in records.items():
        save_predictions(record_path(save_as, name, first["step"]), record)
    print_line(f"measuring the mean of {len(members)} runs on {len(records)} sets, with bootstrap intervals")
    if test not in records:
        raise InputError(f"--ensemble: not all runs were evaluated on {test}; expected runs of one data set")
    evaluation = evaluate_records(
        records[test],
        validation=records.get(validation),
        ood={name: records[f"{name}/test"] for name in first["ood"] if f"{name}/test" in records},
        step=first["step"],
        config=config,
    )
    evaluation |= {"checkpoint": first.get("checkpoint"), "ensemble": origin, **made_by}
    write_json(save_as / CONFIG_FILE, config)
    write_json(save_as / EVALUATION_FILE, evaluation)
    return evaluation


def _evaluation(member: Path) -> dict[str, Any]:
    """Returns the evaluation of a run, whose folder may be a stranger's: its names and step become parts of paths."""
    path = member / EVALUATION_FILE
    try:
        evaluation = parse(read_bytes(path))
        evaluation.setdefault("ood", {})
        _test_and_validation(evaluation)
        config, step, names = evaluation["config"], evaluation["step"], [*evaluation["results"], *evaluation["ood"]]
        whole = isinstance(config.get("seed"), int | None) and isinstance(config.get(DERIVED, {}), dict)
        if not (whole and type(step) is int and all(is_file_name(name.replace("/", "-")) for name in names)):
            raise ValueError("seed, step or the name of a set")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise InputError(
            f"{path} is missing or damaged ({type(error).__name__}); expected that of an evaluated run: "
            f"python -m mixup_jax.evaluate --workdir={member}"
        ) from error
    return evaluation


def _check_alike(members: Sequence[Path], evaluations: Sequence[dict[str, Any]]) -> None:
    """Raises InputError unless the configs differ only in their seeds, and all seeds differ."""
    seeds: dict[Any, Path] = {}
    first = evaluations[0]["config"]
    for member, evaluation in zip(members, evaluations, strict=True):
        config = evaluation["config"]
        if (key := setting_that_differs(first, config)) is not None:
            raise InputError(
                f"--ensemble: {key} of {member} is not that of {members[0]}; expected runs of one config and "
                "different seeds (of anything else: --predictions=A.npz,B.npz)"
            )
        if config.get("seed") in seeds:
            raise InputError(
                f"--ensemble: {member} has seed {config.get('seed')}, as {seeds[config.get('seed')]} has; "
                "expected runs of different seeds"
            )
        seeds[config.get("seed")] = member


def _test_and_validation(evaluation: dict[str, Any]) -> tuple[str, str]:
    """Returns the names of the two sets among the results, `dataset/test` and `dataset/validation`."""
    test = next(name for name in evaluation["results"] if name.endswith("/test"))
    return test, f"{test.removesuffix('/test')}/validation"


def _shared_sets(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the sets of the first evaluation that all others have too."""
    names = [{*each["results"], *(f"{name}/test" for name in each["ood"])} for each in evaluations]
    ordered = [*evaluations[0]["results"], *(f"{name}/test" for name in evaluations[0]["ood"])]
    return [name for name in ordered if all(name in found for found in names)]
