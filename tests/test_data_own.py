"""A user's own data: folders, arrays, tables and sets of tensorflow-datasets, by name alone."""

import csv
import io
import json
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mixup_jax.config import Config, DataConfig, EvaluationConfig, ModelConfig
from mixup_jax.data.__main__ import main as data_command
from mixup_jax.data.cache import arrays_folder
from mixup_jax.data.catalog import dataset_spec, training_spec
from mixup_jax.data.images import channel_statistics, fit, open_upright, shape_of
from mixup_jax.data.load import load_ood, load_split, load_test, load_training_data, recorded_spec
from mixup_jax.data.own import own_spec, record_name, short_name
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.data.sources.folder import images
from mixup_jax.errors import InputError
from mixup_jax.escapes import is_file_name
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.runs.formats import load_predictions
from mixup_jax.training import loop

RNG = np.random.default_rng(0)


def save(path: Path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path, **options)


def quiet(line: str) -> None:
    """Takes lines that no test looks at."""


def photographs(folder: Path, classes=("cat", "dog"), each=10, size=(12, 16)):
    for label, name in enumerate(classes):
        for number in range(each):
            pixels = RNG.integers(60 * label, 60 * label + 100, (*size, 3), dtype=np.uint8)
            save(folder / name / f"{number}.png", pixels)


@pytest.fixture
def pets(tmp_path):
    photographs(tmp_path / "pets" / "train")
    photographs(tmp_path / "pets" / "val", each=3)
    photographs(tmp_path / "pets" / "test", each=4)
    return f"folder:{tmp_path / 'pets'}"


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "kept"


def test_a_folder_with_splits_is_measured_once_and_kept(pets, data_dir):
    lines = []
    spec = dataset_spec(pets, data_dir, lines.append)
    assert (spec.classes, spec.class_names, spec.shape) == (2, ("cat", "dog"), (12, 16, 3))
    assert set(spec.splits) == {"train", "validation", "test"}
    assert is_file_name(spec.name)
    train = load_split(pets, "train", data_dir)
    assert channel_statistics(train.inputs) == (spec.mean, spec.std)
    assert train.labels.tolist() == [0] * 10 + [1] * 10
    folder = Path(pets.partition(":")[2])
    np.testing.assert_array_equal(train.inputs[0], np.asarray(Image.open(folder / "train" / "cat" / "0.png")))
    assert any("prepared in" in line for line in lines)
    again = []
    assert dataset_spec(pets, data_dir, again.append) == spec
    assert not again
    os.utime(folder / "train" / "cat" / "0.png", ns=(1, 1))
    dataset_spec(pets, data_dir, again.append)
    assert again


def test_runs_that_start_together_prepare_once(pets, data_dir):
    lines = []
    with ThreadPoolExecutor(4) as pool:
        specs = list(pool.map(lambda _: own_spec(pets, data_dir, lines.append), range(4)))
    assert len({repr(spec) for spec in specs}) == 1
    assert len([line for line in lines if "prepared in" in line]) == 1


def test_what_was_kept_and_is_lost_or_damaged_is_read_again_or_named(pets, data_dir):
    spec = dataset_spec(pets, data_dir, quiet)
    kept = arrays_folder(data_dir, spec.name)
    (kept / "source.json").unlink()
    assert dataset_spec(pets, data_dir, quiet) == spec
    (kept / "test-labels.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"test-labels.npy is damaged: .* run: python -m mixup_jax.data folder:"):
        load_split(pets, "test", data_dir)
    with pytest.raises(InputError, match=r"unknown data set 'folder:'"):
        dataset_spec("folder:", data_dir)


def test_a_given_validation_split_is_the_one_that_choices_are_made_on(pets, data_dir):
    data = load_training_data(DataConfig(name=pets, validation_examples=5), data_dir)
    assert (len(data.train), len(data.validation)) == (20, 6)
    np.testing.assert_array_equal(data.validation.inputs, load_split(pets, "validation", data_dir).inputs)
    assert len(load_test(DataConfig(name=pets), data_dir, None)) == 8


def test_a_missing_test_split_is_drawn_of_each_class_and_said(tmp_path, data_dir):
    photographs(tmp_path / "plain", classes=("a", "b"), each=20)
    save(tmp_path / "plain" / "lonely" / "x.png", np.zeros((12, 16, 3), np.uint8))
    name, lines = f"folder:{tmp_path / 'plain'}", []
    own_spec(name, data_dir, lines.append)
    train, test = (load_split(name, split, data_dir) for split in ("train", "test"))
    assert np.bincount(test.labels, minlength=3).tolist() == [2, 2, 0]
    assert np.bincount(train.labels, minlength=3).tolist() == [18, 18, 1]
    assert len(load_training_data(DataConfig(name=name, validation_examples=0), data_dir).validation) == 3
    assert any("no test split: 4 of 41 examples drawn" in line for line in lines)
    assert "4 of 41 examples drawn" in test.source
    pixels = {image.tobytes() for part in (train, test) for image in part.inputs}
    assert len(pixels) == 41


def test_names_and_files_of_all_kinds(tmp_path, data_dir):
    folder = tmp_path / "Bilder von früher"
    for number, name in enumerate(("Äpfel", "梨")):
        save(folder / name / "deep" / "1.PNG", np.full((8, 8), 90 * number + 9, np.uint8))
        save(folder / name / "2.jpg", np.full((8, 8, 3), 90 * number + 9, np.uint8), "CMYK")
        save(folder / name / "3.png", np.full((8, 8), 257 * (90 * number + 9), np.uint16))
        Image.fromarray(np.full((8, 8, 3), 90 * number + 9, np.uint8)).quantize(4).save(folder / name / "4.gif")
        (folder / name / ".hidden.png").write_bytes(b"no image")
        (folder / name / "notes.txt").write_text("no image")
    (folder / "empty").mkdir()
    lines = []
    spec = own_spec(f"folder:{folder}", data_dir, lines.append)
    assert any("2 files without the ending of an image are ignored (.txt 2)" in line for line in lines)
    assert any("folders without images are no classes: empty" in line for line in lines)
    assert spec.class_names == ("Äpfel", "梨")
    assert is_file_name(spec.name)
    train = load_split(f"folder:{folder}", "train", data_dir)
    test = load_split(f"folder:{folder}", "test", data_dir)
    for part in (train, test):
        for image, label in zip(part.inputs, part.labels, strict=True):
            np.testing.assert_allclose(image.astype(int), 90 * label + 9, atol=3)


def test_a_class_is_the_same_however_its_accents_are_written(tmp_path, data_dir):
    for form, split in (("NFC", "train"), ("NFD", "test")):
        names = [unicodedata.normalize(form, name) for name in ("Äpfel", "é")]
        photographs(tmp_path / "früchte" / split, classes=names)
    name = f"folder:{tmp_path / 'früchte'}"
    assert own_spec(name, data_dir, quiet).class_names == ("Äpfel", "é")
    assert load_split(name, "test", data_dir).labels.tolist() == [0] * 10 + [1] * 10


def test_links_are_followed_once_and_one_that_leads_nowhere_is_named(tmp_path, data_dir):
    photographs(tmp_path / "real", each=4)
    (tmp_path / "pets").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "cat" / "again").symlink_to(tmp_path / "real" / "cat")
    name = f"folder:{tmp_path / 'pets'}"
    own_spec(name, data_dir, quiet)
    assert sum(len(load_split(name, split, data_dir)) for split in ("train", "test")) == 8
    (tmp_path / "real" / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=r"1 of the 9 images of .*gone.png \(FileNotFoundError"):
        own_spec(name, data_dir, quiet)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path, orientation):
    """Pillow's own exif_transpose is the oracle."""
    from PIL import ImageOps

    pixels = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "x.png", pixels, exif=exif)
    with Image.open(tmp_path / "x.png") as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    found = np.asarray(open_upright(tmp_path / "x.png"))
    np.testing.assert_array_equal(found, expected)
    assert shape_of((tmp_path / "x.png").read_bytes()) == (*expected.shape, 1)


def test_images_of_several_sizes_become_squares_of_their_median_side(tmp_path, data_dir):
    for number, size in enumerate([(20, 30), (24, 24), (40, 22), (100, 50), (10, 90)]):
        for name in ("a", "b"):
            save(tmp_path / "mixed" / name / f"{number}.png", RNG.integers(0, 255, size, dtype=np.uint8))
    name, lines = f"folder:{tmp_path / 'mixed'}", []
    spec = own_spec(name, data_dir, lines.append)
    assert spec.shape == (22, 22, 1)
    assert any("cut to a square in its middle and brought to 22x22" in line for line in lines)
    assert own_spec(name, data_dir, quiet, image_size=8).shape == (8, 8, 1)
    assert training_spec(name, data_dir, quiet, 8).name != spec.name


def test_broken_images_are_named_with_the_reason(tmp_path, data_dir):
    photographs(tmp_path / "pets")
    whole = (tmp_path / "pets" / "cat" / "3.png").read_bytes()
    (tmp_path / "pets" / "cat" / "3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pets" / "dog" / "7.png").write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match=r"1 of the 20 images of .*dog/7.png \(UnidentifiedImageError"):
        own_spec(f"folder:{tmp_path / 'pets'}", data_dir, quiet)
    (tmp_path / "pets" / "dog" / "7.png").unlink()
    with pytest.raises(InputError, match=r"1 of the 19 images of .*cat/3.png \(\w*Error: .*; expected whole images"):
        own_spec(f"folder:{tmp_path / 'pets'}", data_dir, quiet)
    assert not list(data_dir.rglob("spec.json"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "is no folder; expected a folder of images"),
        (lambda root: save(root / "x.png", np.zeros((4, 4), np.uint8)), "expected a folder for each class"),
        (lambda root: photographs(root, classes=("one",)), "has 1 class to train on; expected at least 2"),
        (
            lambda root: (photographs(root / "train"), photographs(root / "test", classes=("cow",))),
            "has in test the class 'cow'; expected those of train: cat, dog",
        ),
        (
            lambda root: [save(root / name / f"{n}.png", np.zeros((4, 4), np.uint8)) for name in "ab" for n in (1, 2)],
            "pixels are all alike",
        ),
    ],
)
def test_a_folder_that_cannot_be_trained_on_says_why(tmp_path, data_dir, make, message):
    make(tmp_path / "root")
    with pytest.raises(InputError, match=message):
        training_spec(f"folder:{tmp_path / 'root'}", data_dir, quiet)


def write_arrays(path: Path, **arrays):
    np.savez(path, **arrays)
    return f"arrays:{path}"


def test_arrays_with_labels_from_1_become_classes_from_0_with_a_line(tmp_path, data_dir):
    images = RNG.integers(0, 256, (60, 9, 7), dtype=np.uint8)
    labels = np.arange(60) % 3 + 1
    name, lines = write_arrays(tmp_path / "mine.npz", images=images, labels=labels[:, None]), []
    spec = own_spec(name, data_dir, lines.append)
    assert any("labels 1 to 3 become the classes 0 to 2" in line for line in lines)
    assert (spec.class_names, spec.shape) == (("1", "2", "3"), (9, 7, 1))
    assert len(load_split(name, "test", data_dir)) == 6
    kept = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for split in ("train", "test"):
        part = load_split(name, split, data_dir)
        assert [kept[image.tobytes()] - 1 for image in part.inputs] == part.labels.tolist()


def test_arrays_with_splits_as_keras_and_medmnist_name_them(tmp_path, data_dir):
    def some(n):
        return RNG.integers(0, 256, (n, 5, 5, 3), dtype=np.uint8), np.arange(n) % 2

    for names in (("x_{}", "y_{}", ("train", "test")), ("{}_images", "{}_labels", ("train", "val", "test"))):
        arrays = {}
        for split in names[2]:
            arrays[names[0].format(split)], arrays[names[1].format(split)] = some(10)
        name = write_arrays(tmp_path / f"{names[0][:2]}.npz".replace("{", "w"), **arrays)
        spec = own_spec(name, data_dir, quiet)
        assert len(spec.splits) == len(names[2])
        np.testing.assert_array_equal(load_split(name, "test", data_dir).inputs, arrays[names[0].format("test")])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": np.zeros((4, 3, 8, 8), np.uint8), "labels": np.arange(4)},
            r"uint8 \[4, 3, 8, 8\]; expected images",
        ),
        ({"images": np.zeros((4, 8, 8), np.float32), "labels": np.arange(4)}, r"are float32 \[4, 8, 8\]; expected"),
        ({"images": np.zeros((4, 8, 8), np.uint8)}, "has images without labels"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.ones((4, 3), int)}, "several classes an example"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(5)}, r"int64 \[5\]; expected one class"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4.0)}, r"float64 \[4\]; expected one class"),
        ({"pictures": np.zeros(3)}, "holds pictures; expected images"),
        ({"images": np.array([{}], object), "labels": np.arange(1)}, "cannot be read"),
    ],
)
def test_arrays_of_another_form_are_refused_with_what_is_expected(tmp_path, data_dir, arrays, message):
    with pytest.raises(InputError, match=message):
        own_spec(write_arrays(tmp_path / "x.npz", **arrays), data_dir, quiet)


def test_a_file_that_is_no_npz_is_refused_without_advice_to_unpickle_it(tmp_path, data_dir):
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 3), np.uint8))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    for name in ("x.npy", "junk.npz"):
        with pytest.raises(InputError, match=r"is no .npz file; expected one of numpy.savez"):
            own_spec(f"arrays:{tmp_path / name}", data_dir, quiet)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_parquet_and_arrow_of_hugging_face_are_read_with_their_class_names(tmp_path, data_dir):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    images = RNG.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    features = {"image": {"_type": "Image"}, "label": {"names": ["ham", "egg"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    rows = [{"bytes": png(image), "path": None} for image in images]
    table = arrow.table({"image": rows, "label": [number % 2 for number in range(12)]})
    table = table.replace_schema_metadata(metadata)
    (tmp_path / "one").mkdir()
    pyarrow.parquet.write_table(table.slice(0, 8), tmp_path / "one" / "train-00000-of-00001.parquet")
    pyarrow.parquet.write_table(table.slice(8), tmp_path / "one" / "test-00000-of-00001.parquet")
    for split, part in (("train", table.slice(0, 8)), ("test", table.slice(8))):
        (tmp_path / "two" / split).mkdir(parents=True)
        path = tmp_path / "two" / split / "data-00000-of-00001.arrow"
        with path.open("wb") as file, arrow.ipc.new_stream(file, part.schema) as writer:
            writer.write_table(part)
        (tmp_path / "two" / split / "state.json").write_text('{"_indices_files": null}')
    for folder in ("one", "two"):
        name = f"hf:{tmp_path / folder}"
        assert own_spec(name, data_dir, quiet).class_names == ("ham", "egg")
        np.testing.assert_array_equal(load_split(name, "test", data_dir).inputs, images[8:])
        assert load_split(name, "train", data_dir).labels.tolist() == [0, 1] * 4
    (tmp_path / "two" / "test" / "state.json").write_text('{"_indices_files": [1]}')
    with pytest.raises(InputError, match=r"expected a data set saved after flatten_indices\(\)"):
        own_spec(f"hf:{tmp_path / 'two'}", data_dir, quiet)
    pyarrow.parquet.write_table(arrow.table({"image": rows[:2], "label": [[0], [1]]}), tmp_path / "multi.parquet")
    with pytest.raises(InputError, match="several classes an example, which is not supported"):
        own_spec(f"hf:{tmp_path / 'multi.parquet'}", data_dir, quiet)
    deep = "[" * 100_000 + "]" * 100_000
    for number, note in enumerate((deep, "[]", '{"info": 5}', '{"info": {"features": {"label": {"names": 5}}}}')):
        path = tmp_path / f"foreign-{number}.parquet"
        pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": note}), path)
        assert own_spec(f"hf:{path}", data_dir, quiet).class_names == ("0", "1")
    (tmp_path / "two" / "test" / "state.json").write_text(deep)
    with pytest.raises(InputError, match=r"state\.json cannot be read as JSON"):
        own_spec(f"hf:{tmp_path / 'two'}", data_dir, quiet)


def test_a_table_of_texts_trains_a_text_network(tmp_path, data_dir):
    with (tmp_path / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([(f"a  good\nfilm {n}", "pos") if n % 2 else (f"bad, film {n}", "neg") for n in range(40)])
    name = f"table:{tmp_path / 'mine.csv'}"
    spec = own_spec(name, data_dir, quiet)
    assert (spec.task, spec.class_names, spec.shape) == ("text", ("neg", "pos"), ())
    config = DataConfig(name=name, validation_examples=6, crop_padding=0, flip=False, max_tokens=5)
    data = load_training_data(config, data_dir)
    assert data.train.inputs.shape == (30, 5)
    assert "good" in data.vocabulary.words
    foreign = load_ood(name, dataset_spec("mr"), data_dir, data.encoder)
    assert foreign.labels.tolist() == [-1] * 40
    (tmp_path / "numbers.csv").write_text("text,label\n" + "".join(f"word {n},{n % 11 + 1}\n" for n in range(44)))
    assert own_spec(f"table:{tmp_path / 'numbers.csv'}", data_dir, quiet).class_names[-2:] == ("10", "11")
    (tmp_path / "bad.csv").write_text("text,label\nonly one\n")
    (tmp_path / "none.csv").write_text("text,label\n")
    with pytest.raises(InputError, match=r"none.csv has no examples"):
        own_spec(f"table:{tmp_path / 'none.csv'}", data_dir, quiet)
    with pytest.raises(InputError, match=r"bad.csv row 2 has other columns than the first row"):
        own_spec(f"table:{tmp_path / 'bad.csv'}", data_dir, quiet)


def test_any_set_of_tfds_is_read_by_its_features(data_dir, monkeypatch):
    images = [png(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(12)]
    served = {
        "train": [{"image": image, "label": n % 2} for n, image in enumerate(images)],
        "validation": [{"image": image, "label": 1} for image in images[:3]],
    }
    kinds = {"image": type("Image", (), {})(), "label": type("ClassLabel", (), {"names": ["no", "yes"]})(), "id": 1}
    splits = {split: SimpleNamespace(num_examples=len(rows)) for split, rows in served.items()}
    builder = SimpleNamespace(info=SimpleNamespace(full_name="beans/1", features=kinds, splits=splits))
    monkeypatch.setattr(tfds_source, "built", lambda name, data_dir: builder)
    monkeypatch.setattr(tfds_source, "undecoded", lambda builder, split, image: served[split])
    spec = own_spec("tfds:beans", data_dir, quiet)
    assert (spec.class_names, spec.shape) == (("no", "yes"), (6, 6, 3))
    assert [len(load_split("tfds:beans", split, data_dir)) for split in ("train", "validation", "test")] == [10, 3, 2]
    kinds["label"] = 1
    with pytest.raises(InputError, match=r"has the features .*; expected one Image or Text, and one ClassLabel"):
        own_spec("tfds:beans", data_dir.with_name("other"), quiet)


def test_a_real_set_that_tfds_has_built_is_found_by_name(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from photographs import TEST, TRAIN, photograph, write_imagenet

    write_imagenet(tmp_path)
    found = load_ood("tfds:imagenet2012", dataset_spec("cifar10"), tmp_path)
    assert found.inputs.shape == (TRAIN + TEST, 32, 32, 3)
    expected = fit(Image.fromarray(photograph(3)), (32, 32, 3))
    np.testing.assert_allclose(found.inputs[3].astype(int), expected, atol=12)  # what JPEG costs
    with pytest.raises(InputError, match="has one example of each class; expected more"):
        own_spec("tfds:imagenet2012", tmp_path, quiet)


def test_foreign_images_are_brought_to_the_shape_of_the_network(pets, tmp_path, data_dir):
    like = dataset_spec("fashion_mnist")
    test_alone = load_ood(pets, like, data_dir)
    assert test_alone.inputs.shape == (8, 28, 28, 1)
    assert set(test_alone.labels) == {-1}
    save(tmp_path / "flat" / "x.png", np.full((50, 40, 3), 77, np.uint8))
    save(tmp_path / "flat" / "below" / "y.png", np.full((9, 40), 77, np.uint8))
    everything = load_ood(f"folder:{tmp_path / 'flat'}", like, data_dir)
    np.testing.assert_array_equal(everything.inputs, np.full((2, 28, 28, 1), 77, np.uint8))
    arrays = write_arrays(tmp_path / "x.npz", images=np.full((3, 5, 5, 3), 9, np.uint8))
    assert load_ood(arrays, like, data_dir).inputs.shape == (3, 28, 28, 1)
    with pytest.raises(InputError, match=r"holds images; expected texts, as mr does"):
        load_ood(arrays, dataset_spec("mr"), data_dir)


def test_names_of_records_tell_equal_names_apart():
    assert short_name("folder:/a/pets") != short_name("folder:/b/pets")
    assert short_name("folder:/a/pets/") == short_name("folder:/a/pets")
    assert record_name("mnist") == "mnist"
    assert all(is_file_name(record_name(name)) for name in ("folder:/", "tfds:a/b", "arrays:/x/ü ü.npz", "hf:.."))


def test_the_command_describes_a_folder(pets, data_dir, capsys):
    assert data_command([pets, f"--data_dir={data_dir}"]) == 0
    out = capsys.readouterr().out
    assert "classes: cat, dog" in out
    assert "train: 20 images of 12x16x3, 2 classes of 10 each" in out
    assert list(arrays_folder(data_dir, short_name(pets)).glob("*-contact-sheet.png"))


def test_a_network_trains_on_a_folder_and_is_evaluated_on_foreign_images(pets, tmp_path, data_dir):
    config = Config(
        epochs=1,
        batch_size=8,
        tensorboard=False,
        data=DataConfig(name=pets, image_size=8),
        model=ModelConfig(name="resnet8", width=2),
        evaluation=EvaluationConfig(ood=("gaussian_noise",), ood_examples=9, batch_size=8),
    )
    loop.train(config, tmp_path / "run", data_dir, report=quiet)
    flat = write_arrays(tmp_path / "x.npz", images=RNG.integers(0, 256, (7, 20, 30, 3), dtype=np.uint8))
    sets = ("test", flat, "gaussian_noise")
    evaluation = evaluate_workdir(
        tmp_path / "run", datasets=sets, checkpoint="last", data_dir=data_dir, force=False, report=quiet
    )
    assert set(evaluation["ood"]) == {record_name(flat), "gaussian_noise"}
    assert evaluation["ood"][record_name(flat)]["n_out"] == 7
    trained = own_spec(pets, data_dir, quiet, 8).name
    assert evaluation["results"][f"{trained}/test"]["n"] == 8
    record = load_predictions(next((tmp_path / "run" / "predictions").glob(f"{trained}-validation-*.npz")))
    assert record.labels.tolist() == [0, 0, 0, 1, 1, 1]
    photographs(Path(pets.partition(":")[2]) / "train", classes=("cat",), each=1)
    with pytest.raises(InputError, match=r"run was trained on other data than folder:.* has now"):
        loop.train(config, tmp_path / "run", data_dir, report=quiet)
    with pytest.raises(InputError, match=r"run was trained on other data than folder:.* has now"):
        evaluate_workdir(tmp_path / "run", datasets=None, checkpoint="last", data_dir=data_dir, force=True)
    with pytest.raises(InputError, match="is the data set that is in-distribution here"):
        evaluate_workdir(tmp_path / "run", datasets=(pets,), checkpoint="last", data_dir=data_dir, force=True)


def test_a_folder_that_goes_away_while_it_is_read_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"folder .*gone cannot be read \(No such file or directory\)"):
        list(images(tmp_path / "gone"))


@pytest.mark.parametrize("own", [5, {"nonsense": 1}])
def test_a_checkpoint_that_names_no_data_set_is_refused(own):
    with pytest.raises(InputError, match="own_spec of the checkpoint cannot be read"):
        recorded_spec({"own_spec": own}, DataConfig())
