import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixup_jax.data import load as load_module
from mixup_jax.data.cache import (
    arrays_folder,
    cached_splits,
    default_data_dir,
    prepare_command,
    read_cache,
    write_cache,
)
from mixup_jax.data.catalog import DATASETS, dataset_spec
from mixup_jax.data.load import load_ood, load_split
from mixup_jax.data.sets import ExampleSet
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.errors import InputError

FASHION = DATASETS["fashion_mnist"]


def random_arrays(n, seed=0, source="made for a test"):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)
    return ExampleSet(images, generator.integers(0, 10, n, dtype=np.int32), source)


@pytest.fixture
def folder(tmp_path):
    folder = arrays_folder(tmp_path, "fashion_mnist")
    write_cache(folder, {"train": random_arrays(30, 1), "test": random_arrays(20, 2)})
    return folder


def assert_same(one, other):
    np.testing.assert_array_equal(one.inputs, other.inputs)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.inputs.dtype == other.inputs.dtype
    assert one.labels.dtype == other.labels.dtype
    assert one.source == other.source


def test_cache_gives_back_what_was_written(tmp_path, folder):
    assert cached_splits(folder) == ("train", "test")
    assert_same(load_split("fashion_mnist", "train", tmp_path), random_arrays(30, 1))
    assert_same(load_split("fashion_mnist", "test", str(tmp_path)), random_arrays(20, 2))
    assert sorted(path.name for path in folder.iterdir()) == [
        "source.json",
        "test-images.npy",
        "test-labels.npy",
        "train-images.npy",
        "train-labels.npy",
    ]


def test_checksums_in_the_record_are_those_of_the_files(folder):
    listed = json.loads((folder / "source.json").read_text())["splits"]["test"]["images"]
    printed = subprocess.run(["sha256sum", folder / "test-images.npy"], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[0] == listed["sha256"]
    assert listed["shape"] == [20, 28, 28, 1]
    assert listed["dtype"] == "uint8"


@pytest.mark.parametrize("name", ["train-images.npy", "train-labels.npy"])
def test_truncated_altered_or_missing_files_are_noticed(tmp_path, folder, name):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(
        InputError, match=rf"{name} is damaged: it has {len(whole) - 1} bytes.*run: python -m mixup_jax"
    ):
        load_split("fashion_mnist", "train", tmp_path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{name} is damaged: its SHA-256"):
        load_split("fashion_mnist", "train", tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=rf"{name} is missing"):
        load_split("fashion_mnist", "train", tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 1, "source": "x", "splits": {}}', '{"format": 1, "splits": {"test": {}}}'],
)
def test_damaged_record_is_noticed(tmp_path, folder, text):
    (folder / "source.json").write_text(text)
    with pytest.raises(InputError, match=r"source.json is damaged"):
        load_split("fashion_mnist", "train", tmp_path)


def test_record_of_another_format_is_refused(tmp_path, folder):
    record = json.loads((folder / "source.json").read_text())
    (folder / "source.json").write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(InputError, match="expected a cache record of format 1"):
        load_split("fashion_mnist", "train", tmp_path)


def test_interrupted_writing_leaves_no_readable_cache(folder, monkeypatch):
    calls, write_header = [], np.lib.format.write_array_header_1_0

    def write_then_fail(file, described):
        calls.append(file)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write_header(file, described)

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", write_then_fail)
    with pytest.raises(KeyboardInterrupt):
        write_cache(folder, {"train": random_arrays(5), "test": random_arrays(5)})
    assert read_cache(folder, "train") is None
    assert not list(folder.glob("*.partial")) + list(folder.glob(".*.partial"))


def test_split_that_the_cache_lacks_names_what_there_is(tmp_path):
    write_cache(arrays_folder(tmp_path, "mnist"), {"test": random_arrays(5, source="five digits")})
    with pytest.raises(InputError, match=r"has no split 'train'; it holds test \(source: five digits\)"):
        load_split("mnist", "train", tmp_path)


def test_missing_data_names_the_folder_and_the_command(tmp_path):
    with pytest.raises(InputError) as caught:
        load_split("fashion_mnist", "train", tmp_path)
    message = str(caught.value)
    assert str(arrays_folder(tmp_path, "fashion_mnist")) in message
    assert message.endswith(f"run: python -m mixup_jax.data fashion_mnist --data_dir={tmp_path}")
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_unknown_names_and_splits_list_the_choices(tmp_path):
    with pytest.raises(InputError, match=r"unknown data set 'fashion'.*fashion_mnist.*, mnist"):
        load_split("fashion", "train", tmp_path)
    with pytest.raises(InputError, match=r"unknown split of mnist 'valid'; choose one of: test, train"):
        load_split("mnist", "valid", tmp_path)


def test_other_data_set_becomes_out_of_distribution_without_labels(tmp_path):
    write_cache(arrays_folder(tmp_path, "mnist"), {"test": random_arrays(9)})
    arrays = load_ood("mnist", FASHION, tmp_path)
    np.testing.assert_array_equal(arrays.inputs, random_arrays(9).inputs)
    assert arrays.labels.tolist() == [-1] * 9
    assert arrays.source == "made for a test"


def test_the_training_set_itself_is_not_out_of_distribution(tmp_path):
    with pytest.raises(InputError, match="'fashion_mnist' is the data set that is in-distribution"):
        load_ood("fashion_mnist", FASHION, tmp_path)
    with pytest.raises(InputError, match="unknown out-of-distribution set"):
        load_ood("nothing", FASHION, tmp_path)


def test_reading_a_cache_loads_neither_tensorflow_nor_tfds_nor_jax(tmp_path, folder):
    code = (
        "import sys; from mixup_jax.data.load import load_split\n"
        f"load_split('fashion_mnist', 'train', {str(tmp_path)!r})\n"
        "print(sorted({'tensorflow', 'tensorflow_datasets', 'jax', 'PIL', 'absl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_default_folder_is_that_of_tfds(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert default_data_dir() == tmp_path
    assert prepare_command("mnist", tmp_path) == "python -m mixup_jax.data mnist"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", "")
    assert default_data_dir() == tmp_path / "tensorflow_datasets"


def pretend_built(tmp_path, file_format="array_record"):
    built = tmp_path / "fashion_mnist" / "3.0.1"
    built.mkdir(parents=True)
    (built / f"fashion_mnist-test.{file_format}-00000-of-00001").touch()


def test_a_set_built_by_tfds_is_decoded_once_and_kept(tmp_path, monkeypatch):
    calls = []

    def decode(spec, data_dir, report):
        calls.append((spec.name, data_dir))
        return {"train": random_arrays(6, 1), "test": random_arrays(4, 2)}

    monkeypatch.setattr(tfds_source, "decode", decode)
    pretend_built(tmp_path)
    for _ in range(2):
        assert_same(load_split("fashion_mnist", "test", tmp_path), random_arrays(4, 2))
    assert calls == [("fashion_mnist", tmp_path)]


def test_a_folder_that_cannot_be_written_still_serves(tmp_path, monkeypatch):
    def refuse(folder, splits):
        raise PermissionError("read-only")

    monkeypatch.setattr(tfds_source, "decode", lambda *_: {"train": random_arrays(6), "test": random_arrays(4)})
    monkeypatch.setattr(load_module, "write_cache", refuse)
    pretend_built(tmp_path)
    assert len(load_split("fashion_mnist", "train", tmp_path).inputs) == 6


def test_a_set_built_as_tfrecord_is_left_to_the_command(tmp_path):
    pretend_built(tmp_path, "tfrecord")
    with pytest.raises(InputError, match=r"not prepared .* run: python -m mixup_jax.data fashion_mnist"):
        load_split("fashion_mnist", "train", tmp_path)


def test_a_set_that_tfds_does_not_have_is_not_taken_for_another_that_it_has_built(tmp_path):
    pretend_built(tmp_path)
    with pytest.raises(InputError, match=r"'mr' is not prepared"):
        load_split("mr", "train", tmp_path)


def test_tfds_examples_become_the_right_arrays_without_tensorflow(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    expected = {"train": random_arrays(12, 1), "test": random_arrays(8, 2)}

    def serve(self, split, **_):
        pairs = zip(expected[split].inputs, expected[split].labels, strict=True)
        return [{"image": image, "label": np.int64(label)} for image, label in pairs]

    before = "tensorflow" in sys.modules
    with tfds.testing.mock_data(as_data_source_fn=serve):
        decoded = tfds_source.decode(FASHION, tmp_path, print)
    assert ("tensorflow" in sys.modules) == before
    for split, arrays in expected.items():
        np.testing.assert_array_equal(decoded[split].inputs, arrays.inputs)
        np.testing.assert_array_equal(decoded[split].labels, arrays.labels)
        assert decoded[split].inputs.dtype == np.uint8
        assert decoded[split].labels.dtype == np.int32
        assert decoded[split].source.startswith("tensorflow-datasets fashion_mnist/")


@pytest.mark.parametrize(
    "example",
    [
        {"image": np.zeros((28, 28, 3), np.uint8), "label": 0},
        {"image": np.zeros((28, 28, 1), np.float32), "label": 0},
        {"image": np.zeros((28, 28, 1), np.uint8), "label": 10},
        {"image": np.zeros((28, 28, 1), np.uint8), "label": -1},
    ],
)
def test_examples_unlike_the_catalogue_are_refused(example):
    good = {"image": np.zeros((28, 28, 1), np.uint8), "label": 9}
    with pytest.raises(InputError, match=r"fashion_mnist/test example 1 is"):
        tfds_source.collect(FASHION, "test", [good, example], "source", print)


def test_decoding_reports_progress(monkeypatch):
    monkeypatch.setattr(tfds_source, "SECONDS_BETWEEN_REPORTS", -1.0)
    good = {"image": np.zeros((28, 28, 1), np.uint8), "label": 9}
    lines = []
    tfds_source.collect(FASHION, "test", [good] * 3, "source", lines.append)
    assert lines[-1] == "decoding test: 3 images so far"


def test_images_of_other_sizes_are_resized_and_selected_by_class_while_they_are_read():
    spec = dataclasses.replace(
        DATASETS["dtd"], classes=4, shape=(6, 6, 3), keep_classes=(0, 2, 3), per_class=2, label="kind"
    )
    kinds = [0, 1, 2, 2, 2, 0, 3, 0, 1]
    examples = [{"image": np.full((8 + i, 12, 3), 10 * i, np.uint8), "kind": kind} for i, kind in enumerate(kinds)]
    arrays = tfds_source.collect(spec, "test", examples, "made", lambda line: None)
    assert arrays.inputs.shape == (5, 6, 6, 3)
    assert arrays.labels.tolist() == [0, 2, 2, 0, 3]
    assert arrays.inputs[:, 0, 0, 0].tolist() == [0, 20, 30, 50, 60]


def test_a_shifted_set_keeps_its_labels_for_networks_of_the_set_it_shifts(tmp_path: Path):
    generator = np.random.default_rng(0)
    shifted = ExampleSet(
        generator.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), np.arange(6, dtype=np.int32), "made-up fog"
    )
    write_cache(arrays_folder(tmp_path, "cifar10_corrupted_fog_3"), {"test": shifted})
    kept = load_ood("cifar10_corrupted_fog_3", dataset_spec("cifar10"), tmp_path)
    np.testing.assert_array_equal(kept.labels, shifted.labels)
    np.testing.assert_array_equal(kept.inputs, shifted.inputs)
    foreign = load_ood("cifar10_corrupted_fog_3", dataset_spec("stl10"), tmp_path)
    assert set(foreign.labels) == {-1}
