"""Damage of every kind to the newest checkpoint is noticed, named, and survived by the one before it."""

import contextlib
import gc
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import checkpoints as door
from mixup_jax.command import run_command
from mixup_jax.devices.mesh import device_mesh, replicate
from mixup_jax.errors import DiskFullError, InputError
from mixup_jax.state import TrainState
from mixup_jax.store import checkpoint as checkpoint_module
from mixup_jax.store import verify
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.store.verify import Stored, checksum, inspect, read_item, steps_in

SCORES = {"validation_accuracy": 0.5}


FORGED = [
    {"config": {"experiment": "\x1b[2J\u202egpj.exe\nstep 9 | checksums right"}},
    {"config": [1], "scores": 3, "total_steps": "many"},
    {"config": {"epochs": "ten", "model": None, "data": 7}, "total_steps": 0, "scores": {"\x07": "\x1b[31m"}},
    {"config": {"epochs": 10}, "total_steps": float("nan"), "scores": {"accuracy": None, "loss": [1, 2]}},
    {"scores": {"accuracy": "x" * 10**6}},
]


def state_of(step: int, size: int = 3000) -> TrainState:
    values = jnp.asarray(np.random.default_rng(step).normal(size=(2, size)), jnp.float32)
    momentum = ({"v": jnp.arange(4.0)}, (), [jnp.int32(step)])
    return TrainState(jnp.int32(step), {"w": values}, {"m": jnp.ones(3)}, momentum)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (10, 20):
            facts = {"config": {"seed": step, "epochs": 2}, "total_steps": 20, "scores": SCORES}
            checkpoints.save(replicate(device_mesh(), state_of(step)), facts, SCORES)
    return tmp_path / "checkpoints"


def largest(folder: Path) -> Path:
    """The file of an item that holds its numbers."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path.write_bytes(content)


def edit_facts(folder: Path) -> None:
    path = folder / "facts" / "metadata"
    path.write_text(path.read_text().replace('"seed": 20', '"seed": 21'))


def only_a_folder(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def better(folder: Path) -> None:
    path = folder / "metrics" / "metrics"
    path.write_text(path.read_text().replace("0.5", "0.9"))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped bytes": (lambda folder: flip(largest(folder / "variables")), "variables"),
    "truncated numbers": (lambda folder: os.truncate(largest(folder / "variables"), 500), "variables cannot be read"),
    "half an optimizer": (lambda folder: os.truncate(largest(folder / "optimizer" / "d"), 20), "optimizer"),
    "no optimizer": (lambda folder: (folder / "optimizer").rename(folder / "gone"), "optimizer cannot be read"),
    "half the facts": (lambda folder: os.truncate(folder / "facts" / "metadata", 40), "facts cannot be read"),
    "other facts": (edit_facts, "facts do not match their checksum"),
    "facts of another kind": (lambda folder: (folder / "facts" / "metadata").write_text("[1]"), "facts are a list"),
    "only a folder": (only_a_folder, "facts cannot be read"),
    "that of another step": (
        lambda folder: (shutil.rmtree(folder), shutil.copytree(folder.parent / "10", folder)),
        "it is that of step 10",
    ),
    "half the rank": (lambda folder: os.truncate(folder / "metrics" / "metrics", 5), "metrics cannot be read"),
    "another rank": (better, "metrics does not match its checksum"),
    "half of what orbax restores by": (
        lambda folder: os.truncate(folder / "variables" / "_METADATA", 20),
        "variables cannot be read",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(kind: str, saved: Path):
    damage, reason = DAMAGE[kind]
    damage(saved / "20")
    said: list[str] = []
    with Checkpoints(saved, read_only=True, report=said.append) as checkpoints:
        assert checkpoints.step_of("last") == 10
        if "rank" not in kind:  # restoring does not read the rank
            with pytest.raises(InputError, match=r"checkpoint 20 in .* cannot be restored"):
                checkpoints.restore_state(20, state_of(0), device_mesh())
    assert len(said) == 1
    assert str(saved / "20") in said[0]
    assert reason in said[0]
    assert steps_in(saved) == [10, 20]  # reading changes nothing
    (saved / "000030").mkdir()  # not the name of a checkpoint

    with Checkpoints(saved, report=said.append) as checkpoints:
        assert checkpoints.last == 10
        restored = checkpoints.restore_state(10, state_of(0), device_mesh())
        checkpoints.save(replicate(device_mesh(), state_of(20)), {"config": {}}, SCORES)
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(10))
    assert (saved / "damaged-20").is_dir()
    assert inspect(saved, 20).verified


def test_a_best_checkpoint_that_cannot_be_ranked_is_named_and_moved_aside(saved: Path):
    with Checkpoints(saved) as checkpoints:
        checkpoints.save(state_of(30), {"config": {}}, {"validation_accuracy": 0.4})
    for damage in (better, lambda folder: (folder / "metrics" / "metrics").write_bytes(b"\xff")):
        damage(saved / "20")
        said: list[str] = []
        with Checkpoints(saved, read_only=True, report=said.append) as checkpoints:
            assert (checkpoints.step_of("last"), checkpoints.step_of("best")) == (30, 30)
        assert len(said) == 1
        assert "20 is damaged: metrics" in said[0]
        assert "not counted as the best" in said[0]
    with Checkpoints(saved, report=said.append) as checkpoints:
        assert checkpoints.last == 30
    assert (saved / "damaged-20").is_dir()


@pytest.mark.parametrize("deleted", [1, 5, 18, 35, -1])
def test_a_kill_while_an_old_checkpoint_is_deleted_leaves_a_folder_that_goes_on(deleted: int, saved: Path):
    order = [path for path, _, _ in os.walk(saved / "10", topdown=False)]
    parts = [Path(folder) / name for folder in order for name in sorted(os.listdir(folder)) if name not in order]
    for path in parts[:deleted]:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    assert run_command(door.main, [str(saved.parent)]) in (0, 1)
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.last == 20
        assert checkpoints.restore_facts(20)["config"]["seed"] == 20
        checkpoints.save(replicate(device_mesh(), state_of(30)), {"config": {}, "scores": SCORES}, SCORES)
    with Checkpoints(saved, read_only=True) as checkpoints:
        assert checkpoints.step_of("last") == 30
        assert checkpoints.step_of("best") in (20, 30)


def test_checkpoints_are_read_while_the_run_goes_on(saved: Path):
    def train() -> None:
        with Checkpoints(saved) as checkpoints:
            for step in range(21, 36):
                facts = {"config": {"seed": step}, "scores": SCORES}
                checkpoints.save(replicate(device_mesh(), state_of(step)), facts, SCORES)

    with ThreadPoolExecutor() as pool:
        training = pool.submit(train)
        read = set()
        while not training.done() or not read:
            with Checkpoints(saved, read_only=True) as checkpoints:
                step = checkpoints.step_of("last")
                assert checkpoints.restore_facts(step)["config"]["seed"] == step
                variables = checkpoints.restore_variables(step, state_of(step).variables, device_mesh())
                np.testing.assert_array_equal(variables["params"]["w"], state_of(step).variables["params"]["w"])
                read.add(step)
        training.result()
    assert steps_in(saved)[-1] == 35


def test_orbax_restores_flipped_bytes_without_a_word(saved: Path):
    """The reason for the checksums; should this ever fail, they are needed no more."""
    flip(largest(saved / "20" / "variables"))
    changed = read_item(saved / "20" / "variables")["params"]["w"]
    assert changed.shape == state_of(20).params["w"].shape
    assert not np.array_equal(changed, state_of(20).params["w"])


@pytest.mark.parametrize("left", [0.5, 20])
def test_a_damaged_item_of_many_arrays_leaves_no_traceback_of_what_was_still_being_read(
    left: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    arrays = {f"w{number}": np.random.default_rng(number).normal(size=(50, 100)) for number in range(60)}
    state = state_of(1)._replace(params=jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), arrays))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {"config": {}}, SCORES)
    numbers = largest(tmp_path / "1" / "variables")
    # Half of the file: arrays cannot be read. 20 bytes: they cannot be opened either.
    os.truncate(numbers, int(left if left > 1 else left * numbers.stat().st_size))
    for _ in range(5):
        damage = inspect(tmp_path, 1).damage
        gc.collect()
        assert damage is not None
        assert "variables cannot be read" in damage
    assert "Event loop" not in capfd.readouterr().err


def test_without_a_whole_checkpoint_the_run_begins_anew(saved: Path):
    for step in (10, 20):
        only_a_folder(saved / str(step))
    said: list[str] = []
    with Checkpoints(saved, report=said.append) as checkpoints:
        assert checkpoints.last is None
    assert len([line for line in said if "is damaged" in line]) == 2


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 5), st.integers(0, 31), st.sampled_from(["w", "v"]))
def test_a_checksum_changes_with_every_bit(index: int, bit: int, name: str):
    tree = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "v": np.arange(6, dtype=np.int32)}
    changed = {key: value.copy() for key, value in tree.items()}
    changed[name].reshape(-1).view(np.uint32)[index] ^= np.uint32(1 << bit)
    assert checksum(changed) != checksum(tree)
    changed[name].reshape(-1).view(np.uint32)[index] ^= np.uint32(1 << bit)
    assert checksum(changed) == checksum(tree)


def test_a_checksum_is_of_names_shapes_and_dtypes_too_and_not_of_containers():
    array = np.arange(6, dtype=np.float32)
    sums = [
        checksum(tree)
        for tree in (
            {"a": array},
            {"b": array},
            {"a": array.reshape(2, 3)},
            {"a": array.view(np.int32)},
            {"a": array, "b": array[:0]},
            [array],
        )
    ]
    assert len(set(sums)) == len(sums)
    assert checksum({"a": jnp.asarray(array)}) == checksum({"a": array})
    assert checksum((array, {"x": array})) == checksum([array, {"x": array}])
    on_eight = replicate(device_mesh(), {"a": array})
    assert checksum(on_eight) == checksum({"a": array})


def test_checkpoints_without_checksums_are_read_and_newer_formats_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verify, "sealed", lambda facts, step, items: dict(facts))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_of(1), {"config": {"seed": 1}}, SCORES)
    monkeypatch.undo()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last == 1
        assert checkpoints.restore_facts(1) == {"config": {"seed": 1}}
        jax.tree.map(
            np.testing.assert_array_equal, checkpoints.restore_state(1, state_of(0), device_mesh()), state_of(1)
        )
        assert not inspect(tmp_path, 1).verified
        monkeypatch.setattr(verify, "FORMAT", 2)
        checkpoints.save(state_of(2), {"config": {"seed": 2}}, SCORES)
    monkeypatch.undo()
    for read_only in (False, True):
        with (
            pytest.raises(InputError, match=r"has format 2, written by a newer mixup_jax; .* up to 1"),
            Checkpoints(tmp_path, read_only=read_only) as checkpoints,
        ):
            checkpoints.step_of("last")
    assert steps_in(tmp_path) == [1, 2]  # a newer one is not damaged: it stays where it is


def test_a_state_that_is_not_finite_is_never_saved(tmp_path: Path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_of(1), {"config": {}}, SCORES)
        for bad in (np.nan, np.inf):
            state = state_of(2)._replace(batch_stats={"m": jnp.array([1.0, bad])})
            with pytest.raises(InputError, match="m holds NaN or infinity after step 2"):
                checkpoints.save(state, {"config": {}}, SCORES)
    assert steps_in(tmp_path) == [1]


def test_without_space_nothing_is_begun_and_the_message_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_of(1), {"config": {}}, SCORES)
        checkpoints.wait()
        usage = checkpoint_module.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(checkpoint_module.shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
        with pytest.raises(
            DiskFullError, match=r"checkpoint 2 needs 16.2 MB in .*, where 5.0 MB are free; the last .* step 1"
        ):
            checkpoints.save(state_of(2, 2_000_000), {"config": {}}, SCORES)
    assert steps_in(tmp_path) == [1]


def test_the_space_that_is_asked_for_is_what_it_takes(saved: Path):
    taken = sum(file.stat().st_blocks * 512 for file in (saved / "20").rglob("*"))
    state = jax.device_get(state_of(20))
    assert 0.9 * taken < checkpoint_module._bytes_on_disk((state.variables, state.opt_state)) < 2 * taken


def check_the_first_survives(folder: Path, fail: Callable[[Checkpoints], object]) -> None:
    """A save that fails while it writes ends the run with a message, and leaves the checkpoint before it."""
    checkpoints = Checkpoints(folder)
    checkpoints.save(state_of(1), {"config": {}}, SCORES)
    checkpoints.wait()
    with pytest.raises(InputError, match=r"checkpoint 2 could not be saved .* needs up to 8.2 MB, .* step 1"):
        fail(checkpoints)
    said: list[str] = []
    with Checkpoints(folder, report=said.append) as again:
        assert again.last == 1
        jax.tree.map(np.testing.assert_array_equal, again.restore_state(1, state_of(0), device_mesh()), state_of(1))
    assert not list(folder.glob("*tmp*"))


def test_an_error_of_an_asynchronous_save_surfaces_at_the_end(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fail(checkpoints: Checkpoints) -> None:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
            checkpoints.save(state_of(2, 1_000_000), {"config": {}}, SCORES)
            checkpoints.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    check_the_first_survives(tmp_path, fail)


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        # Another program fills the disk between the look at its space and the writing.
        usage = checkpoint_module.shutil.disk_usage(tmp_path)

        def fail(checkpoints: Checkpoints) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(checkpoint_module.shutil, "disk_usage", lambda _: usage)
                checkpoints.save(state_of(2, 1_000_000), {"config": {}}, SCORES)
                checkpoints.close()

        check_the_first_survives(disk / "checkpoints", fail)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_command_lists_verifies_and_tells_what_a_checkpoint_holds(saved: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(door.main, [str(saved.parent)]) == 0
    out = capsys.readouterr().out
    assert "step 10 (epoch 1 of 2)" in out
    assert "validation accuracy 0.5" in out
    assert "seed 20" in out
    assert out.count("checksums right") == 2
    flip(largest(saved / "20" / "variables"))
    assert run_command(door.main, [str(saved.parent)]) == 1
    captured = capsys.readouterr()
    assert "step 20 (epoch 2 of 2)" in captured.out
    assert captured.out.count("DAMAGED: variables") == 1
    assert captured.err == "1 damaged\n"


@pytest.mark.parametrize(
    "facts",
    [
        {"config": {"experiment": "\x1b[31mred\u202e\nstep 99", "epochs": "many", "model": 3}, "total_steps": 20},
        {"config": "a text", "scores": {}},
        {"config": {}, "scores": ["validation_accuracy", 1]},
        {"config": {}, "scores": {"\x1b[2Jaccuracy": "high"}},
        {"config": {}, "total_steps": "\x1b[31m", "scores": {"validation_accuracy": 1}},
        {"config": {}, "format": "\x1b[31m2"},
        {"no": "config"},
    ],
)
def test_facts_that_anyone_may_have_written_are_told_in_lines_that_a_terminal_shows_as_they_are(
    facts: dict[str, Any], saved: Path, capsys: pytest.CaptureFixture[str]
):
    path = saved / "10" / "facts" / "metadata"
    path.write_text(json.dumps(verify.sealed({}, 10, {}) | facts | {"step": 10}))
    sums = {"facts": verify._facts_checksum(json.loads(path.read_text()))}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checksums": sums}))
    assert run_command(door.main, [str(saved.parent)]) in (0, 1)
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert [line.split()[1] for line in out.splitlines() if line.startswith("  step")] == ["10", "20"]
    assert "checksums right" in out  # of step 20, which is listed after it
    with Checkpoints(saved, read_only=True) as checkpoints, contextlib.suppress(InputError):
        assert isinstance(checkpoints.restore_facts(10)["config"], dict)


def test_the_command_names_a_folder_without_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run_command(door.main, [str(tmp_path)]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    assert run_command(door.main, []) == 2


def test_what_was_saved_says_its_format_and_sums_on_disk(saved: Path):
    facts: dict[str, Any] = json.loads((saved / "20" / "facts" / "metadata").read_text())
    assert (facts["format"], facts["step"]) == (verify.FORMAT, 20)
    assert facts["checksums"]["variables"] == checksum(state_of(20).variables)
    assert set(facts["checksums"]) == {"variables", "optimizer", "metrics", "facts"}


@pytest.mark.parametrize("facts", FORGED, ids=str)
def test_forged_facts_are_described_in_printable_lines(facts):
    lines = door.describe(Stored(3, facts, None, True, 10**6))
    assert lines[0].startswith("step 3")
    assert all(line.isprintable() and len(line) <= 4000 for line in lines)
