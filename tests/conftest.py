"""What every test shares: eight virtual devices, and tiny stand-ins for the data sets."""

import os

# Before jax is imported: the tests see eight devices on any machine, and do not wait for programs
# that run a few times to be compiled as if they ran for days.
TEST_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {TEST_FLAGS}"
os.environ["JAX_PLATFORMS"] = "cpu"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixup_jax import libraries
from mixup_jax.config import Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig
from mixup_jax.data.cache import arrays_folder, write_cache
from mixup_jax.data.sets import ExampleSet
from mixup_jax.methods.method import Method

# A command changes how its process allocates memory; a test process, which goes on after it, must not change that.
libraries.MALLOC.clear()


def stripes(examples: int, seed: int) -> ExampleSet:
    """Ten classes of noisy striped images: easy enough to be learnt in a few steps."""
    generator = np.random.default_rng(seed)
    labels = np.arange(examples, dtype=np.int32) % 10
    rows = np.arange(28)[None, :, None, None]
    signal = 100 + 100 * np.sin(rows * (labels[:, None, None, None] + 1) * 0.3)
    images = np.clip(signal + generator.normal(0, 30, (examples, 28, 28, 1)), 0, 255).astype(np.uint8)
    return ExampleSet(images, labels, "stripes made for tests")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared data: 400 + 130 examples under the name fashion_mnist, 70 as mnist."""
    folder = tmp_path_factory.mktemp("data")
    write_cache(arrays_folder(folder, "fashion_mnist"), {"train": stripes(400, 0), "test": stripes(130, 1)})
    write_cache(arrays_folder(folder, "mnist"), {"test": stripes(70, 2)})
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """A run of two epochs of five steps with a network of a few hundred parameters."""
    return Config(
        experiment="tiny/mixup",
        epochs=2,
        batch_size=64,
        log_every_steps=2,
        tensorboard=False,
        data=DataConfig(train_examples=330, validation_examples=70),
        model=ModelConfig(name="resnet8", width=2),
        method=Method(mixup_alpha=0.2, group_size=8),
        optimizer=OptimizerConfig(schedule="cosine"),
        evaluation=EvaluationConfig(batch_size=64, record_epochs=(0, 2)),
    )


@pytest.fixture
def train_and_interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`loop.train`, as if Ctrl-C were pressed at the end of the second epoch."""
    from mixup_jax.training import loop

    validate, calls = loop.validate, []

    def validate_once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(*arguments)

    def train(*arguments: Any, **options: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "validate", validate_once)
            with pytest.raises(KeyboardInterrupt):
                loop.train(*arguments, **options)

    return train
