"""Every config of the project builds its network and takes two steps, on made-up data of the right shape."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mixup_jax.config import Config
from mixup_jax.config_file import load_config
from mixup_jax.data.augment import input_shape
from mixup_jax.data.catalog import training_spec
from mixup_jax.data.feed import Resident, epoch_order
from mixup_jax.data.text import Vocabulary
from mixup_jax.devices.mesh import AXIS, replicate
from mixup_jax.training.trainer import check_config, prepare

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
EXAMPLES = 16
VOCABULARY = Vocabulary(tuple(f"word{number}" for number in range(50)))


def small(config: Config) -> Config:
    """The config with a narrow network and a batch of 8, of small photographs; everything else is its own.

    configs/own.py, which leaves the set to the command line, is tried with CIFAR-10.
    """
    name = config.data.name or "cifar10"
    evaluation = dataclasses.replace(config.evaluation, batch_size=8)
    model = dataclasses.replace(config.model, width=4)
    size = 32 if training_spec(name).streams else 0
    data = dataclasses.replace(config.data, name=name, image_size=size)
    return dataclasses.replace(config, data=data, model=model, batch_size=8, evaluation=evaluation)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_takes_two_steps_and_predicts(path: Path):
    config = small(load_config(f"{path}:mixup"))
    check_config(config)
    spec = training_spec(config.data.name)
    generator = np.random.default_rng(0)
    shape = (EXAMPLES, *input_shape(spec, config.data))
    high, dtype = (256, np.uint8) if spec.task == "image" else (len(VOCABULARY), np.int32)
    inputs = generator.integers(0, high, shape).astype(dtype)
    labels = generator.integers(0, spec.classes, EXAMPLES).astype(np.int32)

    run, state = prepare(config, spec, EXAMPLES // 8, VOCABULARY if spec.task == "text" else None)
    before = jax.device_get(state.params)
    if spec.streams:
        fed = jax.device_put((inputs[:8], labels[:8]), NamedSharding(run.mesh, PartitionSpec(AXIS)))
    else:
        resident = Resident(*replicate(run.mesh, (inputs, labels)))
        fed = (resident, replicate(run.mesh, epoch_order(run.keys.order, 0, EXAMPLES)))
    for _ in range(2):
        state, metrics = run.step(state, *fed)
    assert int(state.step) == 2
    assert np.isfinite(float(metrics["loss"]))
    assert 0 < float(metrics["mixing"]) <= 0.5
    moved = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, state.params)), strict=True)]
    assert np.mean(moved) > 0.8, f"{np.sum(moved)} of {len(moved)} parameters moved"
    logits = run.predict(state.variables, inputs)
    assert logits.shape == (EXAMPLES, spec.classes)
    assert np.isfinite(logits).all()
