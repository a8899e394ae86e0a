"""From a folder of images to a report, predictions and exported networks, by the documents' own commands."""

import contextlib
import csv
import importlib
import io
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.special import logsumexp, softmax

from mixup_jax.errors import InputError
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.metrics.features import Training
from mixup_jax.predict import main as predict
from mixup_jax.prediction.served import open_served
from mixup_jax.report.runs import load_run
from mixup_jax.runs.pictures import load_pictures, save_pictures
from mixup_jax.runs.records import load_record

# One process makes the folder that all these tests look at.
pytestmark = pytest.mark.xdist_group("serving")

DOCS = Path(__file__).parents[1] / "docs"
CLASSES = ("=Äpfel", "cat", "dog")
SMALL = (
    *("epochs=1", "batch_size=16", "tensorboard=False", "data.image_size=12", "evaluation.ood_examples=50"),
    *("model.name=resnet8", "model.width=2", "model.stem=cifar"),
)
"""What makes the documents' trainings ones of seconds."""


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


def run_commands(name: str) -> None:
    """Runs the commands of a document in this process, in the current folder."""
    lines = [line for block in blocks(name, "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        (python, flag, module), arguments = shlex.split(line)[:3], shlex.split(line)[3:]
        assert (python, flag) == ("python", "-m")
        if module == "mixup_jax.main":
            arguments += [f"--config.{setting}" for setting in SMALL]
        with contextlib.suppress(ModuleNotFoundError):
            module = importlib.import_module(f"{module}.__main__").__name__
        assert importlib.import_module(module).main(arguments) == 0, line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which docs/own-images.md was followed, and from which the data for training were then taken away."""
    place = tmp_path_factory.mktemp("serving")
    rng = np.random.default_rng(0)
    for split, each in (("train", 16), ("val", 9), ("test", 4)):
        for shade, name in enumerate(CLASSES):
            (place / "pets" / split / name).mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(60 * shade, 60 * shade + 100, (20 + number, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / "pets" / split / name / f"{number}.png")
    shutil.copytree(place / "pets" / "val" / "cat", place / "other_animals")
    (place / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    np.savez(place / "scans.npz", images=rng.integers(0, 256, (7, 9, 9), dtype=np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("TFDS_DATA_DIR", str(place / "kept"))
        with pytest.raises(InputError, match="holds no checkpoint"):
            open_served(place / "runs")
        run_commands("own-images.md")
    shutil.rmtree(place / "kept")
    shutil.rmtree(place / "pets" / "train")
    return place


@pytest.fixture(scope="module")
def pixels(place):
    """The test images as the network takes them, uint8 `[12, 12, 12, 3]`, cut and resized by Pillow alone."""
    images = [Image.open(file) for file in sorted((place / "pets" / "test").rglob("*.png"))]
    squares = []
    for image in images:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        squares.append(image.crop((left, top, left + side, top + side)).resize((12, 12), Image.Resampling.BILINEAR))
    return np.stack([np.asarray(square) for square in squares])


def record(place, name):
    return load_record(next((place / "runs" / "pets-mixup" / "predictions").glob(f"*{name}-*.npz")))


@pytest.fixture(scope="module")
def expected(place):
    """What is to be said of the test images, computed with scipy from the records of the evaluation."""
    evaluation = json.loads((place / "runs" / "pets-mixup" / "evaluation.json").read_text())
    (temperature,) = {results["temperature"] for results in evaluation["results"].values()}
    test, held_out = (record(place, name).logits.astype(float) for name in ("12x12-test", "12x12-validation"))
    energies = -logsumexp(held_out, axis=1)
    lower = [(energies < energy).mean() for energy in -logsumexp(test, axis=1)]
    return {"logits": test, "probabilities": softmax(test / temperature, axis=1), "unlike": np.array(lower)}


def test_the_report_shows_the_surest_mistakes_with_their_classes(place, pixels):
    page = (place / "report" / "index.html").read_text(encoding="utf-8")
    assert "is most confident without being right" in page
    assert "data:image/png;base64" in page
    assert "=Äpfel, cat, dog" in page
    run = load_run(place / "runs" / "pets-mixup")
    for dataset, kept, most in (("12x12-test", 10, 12), ("gaussian_noise-test", 5, 50)):
        predictions = record(place, dataset)
        confidence = softmax(predictions.logits, axis=1).max(axis=1)
        wrong = predictions.logits.argmax(axis=1) != predictions.labels
        shown = run.pictures.of(predictions.meta["dataset"])
        assert (wrong[shown.rows].all(), len(confidence)) == (True, most)
        assert confidence[shown.rows].tolist() == np.sort(confidence[wrong])[::-1][:kept].tolist()
        if most == 12:
            np.testing.assert_array_equal(shown.images, pixels[shown.rows])


def test_pictures_that_do_not_fit_the_records_are_refused(place, tmp_path):
    kept = load_run(place / "runs" / "pets-mixup").pictures
    save_pictures(tmp_path, kept)
    assert load_pictures(tmp_path, kept.step + 1, {}) is None
    with pytest.raises(InputError, match="does not fit the records of its run"):
        load_pictures(tmp_path, kept.step, dict.fromkeys(kept.sets.tolist(), 1))
    (tmp_path / "pictures.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"pictures.npz cannot be read .*expected a whole file"):
        load_pictures(tmp_path, kept.step, {})


def test_a_run_must_be_evaluated_before_its_network_is_used(place):
    predictions = place / "runs" / "pets-mixup" / "predictions"
    predictions.rename(place / "moved")
    with pytest.raises(InputError, match=r"is not evaluated at step 3 .*run: python -m mixup_jax.evaluate --workdir="):
        open_served(place / "runs" / "pets-mixup")
    (place / "moved").rename(predictions)


def test_predictions_are_those_of_the_evaluation_and_broken_images_are_named(place, expected, pixels):
    np.savez(place / "seen.npz", x_test=pixels, y_test=np.zeros(12, int))
    images = [str(place / name) for name in ("broken.jpg", "pets/test", "seen.npz")]
    with pytest.raises(InputError, match=r"1 of 25 images cannot be read: .*broken.jpg \(UnidentifiedImageError"):
        predict([f"--workdir={place / 'runs' / 'pets-mixup'}", *images, f"--output={place / 't.csv'}"])
    rows = list(csv.DictReader((place / "t.csv").open(encoding="utf-8")))
    assert [row["image"].rpartition("/")[2] for row in rows[11:14]] == ["3.png", "seen.npz[test 0]", "seen.npz[test 1]"]
    shown = ["'=Äpfel", "cat", "dog"]
    for row, found in zip([*range(12), *range(12)], rows, strict=True):
        probabilities, unlike = expected["probabilities"][row], expected["unlike"][row]
        order = np.argsort(-probabilities)
        assert [found[name] for name in ("class", "class_2", "class_3")] == [shown[label] for label in order]
        values = [float(found[name]) for name in ("confidence", "probability_2", "probability_3", "unlike")]
        np.testing.assert_allclose(values, [*probabilities[order], unlike], atol=2e-6)


@pytest.fixture(scope="module")
def served(place):
    """What the commands of docs/serving.md printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(place)
        run_commands("serving.md")
    return printed.getvalue()


def test_what_the_page_on_serving_says_is_so(place, served, expected, pixels, monkeypatch):
    """Its commands, and its programs that need jax and TensorFlow alone."""
    monkeypatch.chdir(place)
    assert "pets/test/cat/0.png: " in served
    assert len((place / "predictions.csv").read_text(encoding="utf-8").splitlines()) == 1 + 9 + 7
    with_jax, with_tensorflow = blocks("serving.md", "python")
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(with_jax, "serving.md", "exec"), names)
    np.testing.assert_array_equal(names["images"], pixels[[4, 8]])
    _same(names["answer"], {name: values[[4, 8]] for name, values in expected.items()})
    pytest.importorskip("tensorflow")
    exec(compile(with_tensorflow, "serving.md", "exec"), names)
    _same(names["same"], {name: values[[4, 8]] for name, values in expected.items()})


@pytest.mark.usefixtures("served")
def test_a_record_of_images_has_the_logits_and_features_that_evaluate_reads(place, expected):
    workdir = f"--workdir={place / 'runs' / 'pets-mixup'}"
    assert predict([workdir, str(place / "pets/test"), "--features", f"--output={place / 'test.npz'}"]) == 0
    found, animals = (load_record(place / name, features=True) for name in ("test.npz", "animals.npz"))
    np.testing.assert_allclose(found.logits, expected["logits"], rtol=1e-4, atol=1e-5)
    assert [Path(name).name for name in animals.meta["images"]] == [f"{number}.png" for number in range(9)]
    head = open_served(place / "runs" / "pets-mixup").network.variables["params"]["head"]
    kernel, bias = (np.asarray(head[name]) for name in ("kernel", "bias"))
    np.testing.assert_allclose(animals.features @ kernel + bias, animals.logits, rtol=1e-2, atol=1e-2)
    test = replace(
        record(place, "12x12-test"), features=found.features, training=Training(found.features, None, kernel, bias)
    )
    foreign = evaluate_records(test, ood={"animals": animals}, features=True)["ood"]["animals"]
    assert (foreign["n_out"], foreign["scores"]["vim"]["auroc"] >= 0) == (9, True)
    for extra, message in (
        (["--features"], "--features given without --output=FILE.npz"),
        ([f"--output={place / 'a.txt'}"], "ends in .txt; expected a file ending in .csv or .npz"),
        ([f"--output={place / 'a.npz'}"], "none of 1 images can be read, the first: .*broken.jpg"),
    ):
        with pytest.raises(InputError, match=message):
            predict([workdir, str(place / "broken.jpg"), *extra])


@pytest.mark.usefixtures("served")
def test_the_exported_network_takes_any_number_of_images(place, expected, pixels):
    network = jax.export.deserialize(bytearray((place / "deployed" / "network.stablehlo").read_bytes()))
    facts = json.loads((place / "deployed" / "network.json").read_text())
    assert facts["class_names"] == list(CLASSES)
    assert set(network.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    for rows in (slice(0, 1), slice(0, 12)):
        _same(network.call(pixels[rows]), {name: values[rows] for name, values in expected.items()})


def _same(found, expected):
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(np.asarray(found[name]), values, rtol=1e-4, atol=1e-5, err_msg=name)
