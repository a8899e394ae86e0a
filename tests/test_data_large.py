"""A user's own data that are too large for memory: the same numbers as in memory, in bounded memory."""

import dataclasses
import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mixup_jax.config import Config, DataConfig, EvaluationConfig, ModelConfig
from mixup_jax.data import own_examples
from mixup_jax.data.__main__ import main as data_command
from mixup_jax.data.cache import arrays_folder
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.feed import feed_of
from mixup_jax.data.load import load_ood, load_test, load_training_data
from mixup_jax.data.own import decoded, given_images, own_spec, record_name
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.data.stream import FileRecords
from mixup_jax.errors import InputError
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.methods.method import Method
from mixup_jax.store.verify import inspect
from mixup_jax.training import loop

pytest.importorskip("grain")
IMAGES = np.random.default_rng(0).integers(0, 200, (60, 12, 16, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3
IMAGES[LABELS == 1, :6] += 50
LIMIT = 1000
"""Bytes of memory beyond which the tests' sets are streamed."""


def quiet(line: str) -> None:
    """Takes lines that no test looks at."""


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def as_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = root / "pets" / "abc"[label] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return f"folder:{root / 'pets'}"


def as_arrays(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    np.savez(root / "plain.npz", images=IMAGES, labels=LABELS)
    return f"arrays:{root / 'plain.npz'}"


def as_compressed(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    parts = {"train": slice(0, 40), "val": slice(40, 50), "test": slice(50, 60)}
    arrays = {f"x_{split}": IMAGES[rows] for split, rows in parts.items()}
    arrays["x_val"] = np.asfortranarray(arrays["x_val"])
    np.savez_compressed(root / "c.npz", **arrays, **{f"y_{split}": LABELS[rows] for split, rows in parts.items()})
    return f"arrays:{root / 'c.npz'}"


def as_parquet(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    (root / "hub").mkdir()
    rows = [{"bytes": png(image), "path": None} for image in IMAGES]
    pyarrow.parquet.write_table(arrow.table({"image": rows[:45], "label": LABELS[:45]}), root / "hub/train-0.parquet")
    with (root / "hub/test-0.arrow").open("wb") as file:
        rest = arrow.table({"label": LABELS[45:], "image": rows[45:]})
        with arrow.ipc.new_stream(file, rest.schema) as writer:
            writer.write_table(rest, max_chunksize=7)
    return f"hf:{root / 'hub'}"


def as_tfds(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    examples = [{"image": png(image), "label": label} for image, label in zip(IMAGES, LABELS, strict=True)]
    kinds = {"image": type("Image", (), {})(), "label": type("ClassLabel", (), {"names": ["a", "b", "c"]})()}
    info = SimpleNamespace(full_name="pets/1", features=kinds, splits={"train": SimpleNamespace(num_examples=60)})
    monkeypatch.setattr(tfds_source, "built", lambda name, data_dir: SimpleNamespace(info=info))
    monkeypatch.setattr(tfds_source, "undecoded", lambda builder, split, image: examples)
    return "tfds:pets"


@pytest.mark.parametrize("size", [0, 8])
@pytest.mark.parametrize("written", [as_folder, as_arrays, as_compressed, as_parquet, as_tfds])
def test_what_evaluation_sees_does_not_depend_on_whether_it_fits_in_memory(
    written, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = written(tmp_path, monkeypatch)
    config = DataConfig(name=name, validation_examples=0, image_size=size, crop_padding=2)

    def opened(where: Path) -> list:
        own = load_training_data(config, where)
        return [own.train, own.validation, load_test(config, where, None), load_ood(name, dataset_spec("mnist"), where)]

    resident = opened(tmp_path / "resident")
    monkeypatch.setattr(own_examples, "RESIDENT_BYTES", LIMIT)
    lines: list[str] = []
    spec = own_spec(name, tmp_path / "streamed", lines.append, size)
    assert any("too many for memory" in line for line in lines)
    assert spec == dataclasses.replace(own_spec(name, tmp_path / "resident", quiet, size), streams=True)
    for one, other in zip(resident, opened(tmp_path / "streamed"), strict=True):
        assert not isinstance(other.inputs, np.ndarray)
        np.testing.assert_array_equal(np.concatenate(list(other.inputs.batches(7, np.arange(7)))), one.inputs)
        np.testing.assert_array_equal(other.labels, one.labels)
        assert other.source == one.source
    assert resident[0].inputs.shape[1:] == ((8, 8, 3) if size else (12, 16, 3))
    assert data_command([name, f"--data_dir={tmp_path / 'streamed'}"]) == 0


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    return Config(
        epochs=2,
        batch_size=8,
        log_every_steps=1,
        tensorboard=False,
        data=DataConfig(name=as_arrays(tmp_path, monkeypatch), validation_examples=10, crop_padding=2),
        method=Method(mixup_alpha=0.2, group_size=8),
        model=ModelConfig(name="small_networks:Linear"),
        evaluation=EvaluationConfig(ood=(), batch_size=8),
    )


def sums_of_the_end(workdir: Path):
    stored = inspect(workdir / "checkpoints", 10)
    assert stored.verified
    return {item: stored.facts["checksums"][item] for item in ("variables", "optimizer")}


def test_a_run_ends_at_the_same_bits_whether_its_images_fit_in_memory_or_not_also_if_it_is_interrupted(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_and_interrupt: Callable[..., None]
):
    loop.train(config, tmp_path / "resident", tmp_path / "small", report=quiet)
    np.savez_compressed(tmp_path / "other.npz", images=IMAGES[:, :9, :9, 0])
    foreign = f"arrays:{tmp_path / 'other.npz'}"

    def evaluated(data_dir: Path):
        run, sets = tmp_path / "resident", ("test", foreign)
        return evaluate_workdir(run, datasets=sets, checkpoint="last", data_dir=data_dir, force=True, report=quiet)

    resident = evaluated(tmp_path / "small")
    monkeypatch.setattr(own_examples, "RESIDENT_BYTES", LIMIT)
    large = tmp_path / "large"
    assert not feed_of(config, own_spec(config.data.name, large, quiet)).resident
    train_and_interrupt(config, tmp_path / "streamed", large, report=quiet)
    loop.train(config, tmp_path / "streamed", large, report=quiet)
    assert sums_of_the_end(tmp_path / "streamed") == sums_of_the_end(tmp_path / "resident")
    assert evaluated(large) == resident
    assert resident["ood"][record_name(foreign)]["n_out"] == 60


def test_a_large_folder_may_be_cut_at_random_out_of_its_files_and_names_one_that_breaks(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(own_examples, "RESIDENT_BYTES", LIMIT)
    name, data_dir = as_folder(tmp_path, monkeypatch), tmp_path / "kept"
    data = dataclasses.replace(config.data, name=name, crop="random_resized", crop_padding=0, workers=1)
    config = dataclasses.replace(config, epochs=1, data=data)
    loop.train(config, tmp_path / "run", data_dir, report=quiet)
    train = load_training_data(config.data, data_dir).train.inputs
    assert isinstance(train.originals.records, FileRecords)
    np.testing.assert_array_equal(train.originals[:5], train[:5])
    (tmp_path / "pets" / "a" / "00.png").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"pets/a/00.png cannot be decoded \(UnidentifiedImageError.*expected a whole"):
        train.originals.records.crops([0], [None])


def test_what_was_kept_on_disk_and_is_damaged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(own_examples, "RESIDENT_BYTES", LIMIT)
    name = as_arrays(tmp_path, monkeypatch)
    kept = arrays_folder(tmp_path, own_spec(name, tmp_path, quiet).name) / "test-images.npy"
    test = load_test(DataConfig(name=name), tmp_path, None)
    os.truncate(kept, 300)
    with pytest.raises(InputError, match=r"image 5 of .*test-images.npy cannot be decoded .*delete its folder"):
        test.inputs[5:]
    with pytest.raises(InputError, match=r"is damaged: it has 300 bytes, .*run: python -m mixup_jax.data arrays:"):
        load_test(DataConfig(name=name), tmp_path, None)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_file(save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(own_examples, "RESIDENT_BYTES", LIMIT)
    monkeypatch.setattr(own_examples, "AT_ONCE", 8)
    images = np.zeros((500, 150, 150, 3), np.uint8)
    images[::7] = 255
    save(tmp_path / "x.npz", images=images, labels=np.arange(500) % 2)
    size = images.nbytes
    del images
    tracemalloc.start()
    try:
        own_spec(f"arrays:{tmp_path / 'x.npz'}", tmp_path, quiet)
        given = given_images([str(tmp_path / "x.npz")], tmp_path)
        like = dataset_spec("cifar10")
        assert sum(len(pixels) for _, pixels, _ in decoded(given, like, 8)) == 500
        assert tracemalloc.get_traced_memory()[1] < size / 3
    finally:
        tracemalloc.stop()


def test_a_damaged_array_in_a_file_is_noticed(tmp_path: Path):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[5000] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"x.npz cannot be read \(Bad CRC-32"):
        own_spec(f"arrays:{tmp_path / 'x.npz'}", tmp_path, quiet)
