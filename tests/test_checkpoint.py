from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore

from mixup_jax.devices.mesh import device_mesh, replicate
from mixup_jax.errors import InputError
from mixup_jax.state import TrainState
from mixup_jax.store.checkpoint import Checkpoints


def state_of(step: int) -> TrainState:
    return TrainState(
        jnp.int32(step), {"w": jnp.full((2, 3), float(step))}, {"m": jnp.ones(3)}, ({"v": jnp.arange(4.0)},)
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with Checkpoints(tmp_path) as checkpoints:
        for step, accuracy in ((10, 0.5), (20, 0.8), (30, 0.6), (40, 0.7)):
            state = replicate(device_mesh(), state_of(step))
            checkpoints.save(state, {"config": {"seed": step}}, {"validation_accuracy": accuracy})
    return tmp_path


def test_the_last_two_and_the_best_are_kept(saved: Path):
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.last == 40
        assert [checkpoints.step_of(choice) for choice in ("last", "best", "20", "30")] == [40, 20, 20, 30]
        with pytest.raises(InputError, match=r"checkpoint '10' is not in .*; choose last, best or one of: 20, 30, 40"):
            checkpoints.step_of("10")


@pytest.mark.parametrize("devices", [1, 8])
def test_a_state_saved_on_eight_devices_is_restored_on_any_number(saved: Path, devices: int):
    mesh = device_mesh(jax.devices()[:devices])
    with Checkpoints(saved) as checkpoints:
        restored = checkpoints.restore_state(20, state_of(0), mesh)
        variables = checkpoints.restore_variables(20, state_of(0).variables, mesh)
        assert checkpoints.restore_facts(20) == {"config": {"seed": 20}}
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(20))
    np.testing.assert_array_equal(variables["params"]["w"], np.full((2, 3), 20.0))
    assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(restored)} == {devices}


def test_the_best_is_that_of_the_lowest_refinement_where_there_is_one(tmp_path: Path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, refinement in ((1, 0.4), (2, 0.3), (3, 0.5), (4, 0.6)):
            scores = {"validation_accuracy": step / 10, "validation_refinement": refinement}
            checkpoints.save(state_of(step), {"config": {}}, scores)
        checkpoints.close()
    with Checkpoints(tmp_path) as checkpoints:
        assert [checkpoints.step_of(choice) for choice in ("last", "best", "3")] == [4, 2, 3]
        assert not (tmp_path / "1").exists()


def test_of_equally_good_ones_the_later_is_best(tmp_path: Path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state_of(step), {}, {"validation_accuracy": 0.5 if step < 3 else 0.1})
        checkpoints.close()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.step_of("best") == 2


def test_a_state_may_be_donated_as_soon_as_save_returns(tmp_path: Path):
    overwrite = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0, state), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        state = state_of(7)
        checkpoints.save(state, {}, {"validation_accuracy": 0.5})
        overwrite(state)
        checkpoints.close()
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_state(7, state_of(0), device_mesh())
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(7))


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last is None
        with pytest.raises(InputError, match="holds no checkpoint"):
            checkpoints.step_of("last")


def test_what_a_save_opens_asks_for_one_thread_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Tensorstore's pool grows to the most that was asked for at any time; orbax's default is 128."""
    limits: list[int] = []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(*args: Any, **options: Any) -> Any:
            limits.append(options["context"]["file_io_concurrency"].to_json()["limit"])
            return real(*args, **options)

        return opened

    monkeypatch.setattr(tensorstore, "open", watched(tensorstore.open))
    monkeypatch.setattr(tensorstore.KvStore, "open", staticmethod(watched(tensorstore.KvStore.open)))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_of(3), {}, {"validation_accuracy": 0.5})
    assert len(limits) > 4  # arrays, shardings, and the merging of both items
    assert set(limits) == {1}
