"""Photographs that are streamed: where they are cut, in which order they come, and a run that trains on them."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import LABELS, TEST, TRAIN, jpeg, photograph, write_imagenet
from PIL import Image
from scipy import stats

from mixup_jax.config import Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig, to_dict
from mixup_jax.config_file import load_config
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.feed import StreamedFeed
from mixup_jax.data.images import centre_box, decode, random_box
from mixup_jax.data.load import load_test, load_training_data
from mixup_jax.data.prepare import describe, prepare
from mixup_jax.data.sets import ExampleSet
from mixup_jax.data.stream import Records, StreamedImages, TrainingBatches, ahead, crop_draws, epoch_order
from mixup_jax.devices.mesh import device_mesh, process_rows
from mixup_jax.errors import InputError
from mixup_jax.evaluation.run import evaluate_workdir
from mixup_jax.methods.method import Method
from mixup_jax.prediction.predict import make_predict
from mixup_jax.runs.records import load_record
from mixup_jax.runs.workdir import check_same
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.training import loop
from mixup_jax.training.trainer import check_config
from mixup_jax.training.trainer import prepare as prepare_run

grain = pytest.importorskip("grain")

pytestmark = pytest.mark.xdist_group("stream")
SPEC = dataset_spec("imagenet2012")
SIZE = 32


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet")
    write_imagenet(folder)
    return folder


@pytest.fixture(scope="module")
def images(imagenet: Path) -> StreamedImages:
    return StreamedImages(Records(SPEC.sized(SIZE), "train", imagenet), np.arange(TRAIN), workers=0)


@pytest.fixture(scope="module")
def config() -> Config:
    return Config(
        experiment="tiny/imagenet",
        epochs=2,
        batch_size=8,
        log_every_steps=1,
        tensorboard=False,
        data=DataConfig(
            name="imagenet2012",
            validation_examples=5,
            crop="random_resized",
            crop_padding=0,
            image_size=SIZE,
            workers=0,
        ),
        model=ModelConfig(name="resnet8", width=2, stem="imagenet", zero_init_residual=True),
        method=Method(mixup_alpha=0.2, group_size=4),
        optimizer=OptimizerConfig(weight_decay=1e-4, decay_norm_and_bias=False, warmup_epochs=1.0, warmup_start=0.05),
        evaluation=EvaluationConfig(ood=(), batch_size=8),
    )


sides = st.integers(1, 600)


@given(sides, sides, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_random_box_lies_inside_and_has_a_wanted_shape(width: int, height: int, example: int):
    box = random_box(width, height, crop_draws(0, 0, example))
    assert 0 <= box.left <= box.left + box.width <= width
    assert 0 <= box.top <= box.top + box.height <= height
    assert min(box.width, box.height) >= 1
    if min(width, height) >= 40 and 0.5 < width / height < 2:
        # Rounding moves each side by half a pixel at most.
        assert (box.width - 0.5) / (box.height + 0.5) < 4 / 3
        assert (box.width + 0.5) / (box.height - 0.5) > 3 / 4
        assert (box.width + 0.5) * (box.height + 0.5) > 0.08 * width * height


def test_boxes_follow_the_law_of_rejection():
    """Areas and places against draws by another generator, accepted or rejected all at once."""
    width, height, n = 500, 375, 4000
    boxes = np.array([random_box(width, height, crop_draws(3, 1, example)) for example in range(n)])
    generator = np.random.default_rng(0)
    area = generator.uniform(0.08, 1, 10 * n) * width * height
    aspect = (4 / 3) ** generator.uniform(-1, 1, 10 * n)
    fits = (np.sqrt(area * aspect) <= width) & (np.sqrt(area / aspect) <= height)
    assert stats.ks_2samp(boxes[:, 2] * boxes[:, 3], area[fits]).pvalue > 1e-3
    assert stats.ks_2samp(np.log(boxes[:, 2] / boxes[:, 3]), np.log(aspect[fits])).pvalue > 1e-3
    place = (boxes[:, 0] + generator.uniform(0, 1, n)) / (width - boxes[:, 2] + 1)
    assert stats.kstest(place, "uniform").pvalue > 1e-3
    place = (boxes[:, 1] + generator.uniform(0, 1, n)) / (height - boxes[:, 3] + 1)
    assert stats.kstest(place, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("width", "height"), [(1000, 30), (30, 1000)])
def test_where_nothing_fits_the_middle_is_taken_at_a_bound_of_the_aspect_ratio(width: int, height: int):
    # The largest area at the least extreme aspect ratio: 30,000 pixels do not fit in 30 rows.
    box = random_box(width, height, np.tile([0.999, 0.5, 0.0, 0.0], (10, 1)))
    assert (box.width, box.height) == ((40, 30) if width > height else (30, 40))
    assert (box.left, box.top) == ((480, 0) if width > height else (0, 480))


@pytest.mark.parametrize(("width", "height"), [(320, 256), (256, 400), (256, 256)])
def test_the_centre_is_that_of_resizing_the_shorter_side_to_256(width: int, height: int):
    pixels = np.random.default_rng(0).integers(0, 256, (height // 32, width // 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    file = jpeg(np.asarray(image))
    box = centre_box(width, height)
    assert (box.width, box.height) == (224, 224)
    left, top = (width - 224) // 2, (height - 224) // 2
    cut = image.crop((left, top, left + 224, top + 224))
    difference = np.abs(decode(file, 224, None).astype(int) - np.asarray(cut).astype(int))
    assert difference.mean() < 3  # what JPEG costs


@pytest.mark.parametrize("example", range(5))
def test_a_crop_shows_what_is_in_its_box(example: int):
    pixels, draws = photograph(example), crop_draws(0, 0, example)
    height, width = pixels.shape[:2]
    box = random_box(width, height, draws)
    crop = decode(jpeg(pixels), SIZE, draws).astype(float)
    assert crop.shape == (SIZE, SIZE, 3)
    # Red grows to the right and green downwards; the middle columns and rows lie clear of the edges.
    for channel, start, length, whole in ((0, box.left, box.width, width), (1, box.top, box.height, height)):
        profile = crop[..., channel].mean(axis=channel)
        centres = start + (np.arange(SIZE) + 0.5) * length / SIZE - 0.5
        np.testing.assert_allclose(profile[2:-2], (centres * 255 / (whole - 1))[2:-2], atol=4)


def test_an_epoch_visits_every_example_once_in_an_order_of_its_own():
    orders = [epoch_order(seed, epoch, 1000) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert len({tuple(order[:5]) for order in orders}) == 3
    assert len({tuple(crop_draws(*key).ravel()) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}) == 4


def test_the_batch_of_a_step_depends_on_nothing_but_its_number(images: StreamedImages):
    made = TrainingBatches(images, seed=4, batch_size=8, epochs=2, rows=range(8))
    assert len(made) == 2 * (TRAIN // 8)
    straight = list(ahead(made, workers=0))
    assert len(straight) == 4
    for resumed, whole in zip(ahead(made, workers=0, first=3), straight[3:], strict=True):
        np.testing.assert_array_equal(resumed[0], whole[0])
        np.testing.assert_array_equal(resumed[1], whole[1])
    seen = np.concatenate([labels for _, labels in straight[:2]])
    np.testing.assert_array_equal(seen, LABELS[epoch_order(4, 0, TRAIN)[:16]])
    # Two processes feed the halves.
    halves = [dataclasses.replace(made, rows=range(start, start + 4)) for start in (0, 4)]
    for step, (pixels, labels) in enumerate(straight):
        np.testing.assert_array_equal(np.concatenate([half[step][0] for half in halves]), pixels)
        np.testing.assert_array_equal(np.concatenate([half[step][1] for half in halves]), labels)
    assert not np.array_equal(made[0][0], dataclasses.replace(made, seed=5)[0][0])


def test_worker_processes_make_the_same_batches(images: StreamedImages):
    made = TrainingBatches(images, seed=4, batch_size=4, epochs=1, rows=range(4))
    for given_, expected in zip(ahead(made, workers=2), ahead(made, workers=0), strict=True):
        np.testing.assert_array_equal(given_[0], expected[0])
        np.testing.assert_array_equal(given_[1], expected[1])


WORKING = """
import os, signal, time
from multiprocessing import active_children
from mixup_jax.data.stream import ahead
batches = ahead(range(1000), workers=1)
print(next(batches), flush=True)
for worker in active_children():
    os.kill(worker.pid, signal.SIGTERM)
print([next(batches) for _ in range(50)][-1], flush=True)
time.sleep(600)
"""


def test_workers_outlive_a_signal_to_the_job_and_end_with_a_parent_that_is_killed():
    process = subprocess.Popen(
        [sys.executable, "-c", WORKING], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["0\n", "50\n"]
    process.kill()
    # The worker holds the other end of the pipe, too: it closes when the last of them is gone.
    assert process.communicate(timeout=30)[0] == ""


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_none_is_named(images: StreamedImages, workers: int):
    broken = dataclasses.replace(images, records=Broken(**images.records.__getstate__()))
    with pytest.raises(InputError, match=r"image 13 of imagenet2012/train in .* cannot be decoded \(OSError: .*build"):
        list(ahead(TrainingBatches(broken, seed=0, batch_size=TRAIN, epochs=1, rows=range(TRAIN)), workers))


class Broken(Records):
    """Of which one image's file is cut off."""

    def read(self, rows: Sequence[int]) -> tuple[list[bytes], Any]:
        files, labels = super().read(rows)
        return [file[:300] if row == 13 else file for file, row in zip(files, rows, strict=True)], labels


def test_evaluation_sees_every_example_once(imagenet: Path, config: Config):
    test = load_test(config.data, imagenet, None)
    assert len(test.labels) == TEST
    np.testing.assert_array_equal(test.labels, LABELS[:TEST])
    predict = make_predict(lambda _, x, __: x.astype("float32").mean(axis=(1, 2)), device_mesh(), batch_size=8)
    logits = predict({}, test.inputs)
    expected = [decode(jpeg(photograph(TRAIN + n)), SIZE, None).mean(axis=(0, 1)) for n in range(TEST - 1)]
    np.testing.assert_allclose(logits[:-1], expected, rtol=1e-5)
    assert len(logits) == TEST
    np.testing.assert_allclose(logits[-1], logits[-1][0], rtol=1e-6)  # grey became colour
    batches = list(test.inputs.batches(3, np.arange(3)))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), test.inputs[:])


def test_validation_is_a_part_of_the_training_split(imagenet: Path, config: Config):
    train, validation = load_training_data(config.data, imagenet)[:2]
    rows = np.concatenate([train.inputs.rows, validation.inputs.rows])
    np.testing.assert_array_equal(np.sort(rows), np.arange(TRAIN))
    assert (len(train.inputs), len(validation.inputs)) == (TRAIN - 5, 5)
    np.testing.assert_array_equal(validation.labels, LABELS[validation.inputs.rows])


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_the_feed_lays_a_batch_over_the_devices(images: StreamedImages, parallel: str):
    mesh = device_mesh(jax.devices()[:4])
    np.testing.assert_array_equal(process_rows(mesh, 8), np.arange(8))
    made = TrainingBatches(images, seed=4, batch_size=8, epochs=1, rows=process_rows(mesh, 8))
    data = DataConfig(workers=0, crop="random_resized", crop_padding=0)
    config = Config(seed=4, batch_size=8, epochs=1, parallel=parallel, data=data)
    fed = list(StreamedFeed(config).fed(ExampleSet(images, None, "made"), jax.random.key(0), mesh, 1))
    assert len(fed) == 1
    pixels, labels = fed[0]
    assert pixels.shape[:-3] == ((8,) if parallel == "jit" else (4, 2))
    assert len(pixels.addressable_shards) == 4
    np.testing.assert_array_equal(np.asarray(pixels).reshape(8, SIZE, SIZE, 3), made[1][0])
    np.testing.assert_array_equal(np.asarray(labels).ravel(), made[1][1])


@pytest.fixture(scope="module")
def workdir(imagenet: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tiny"
    loop.train(config, folder, imagenet)
    return folder


def last_state(workdir: Path, config: Config) -> Any:
    _, like = prepare_run(config, SPEC, 2)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert checkpoints.last is not None
        return jax.device_get(checkpoints.restore_state(checkpoints.last, like, device_mesh()))


def test_a_run_that_was_interrupted_ends_at_the_same_bits(
    workdir: Path, imagenet: Path, config: Config, tmp_path: Path, train_and_interrupt: Callable[..., None]
):
    train_and_interrupt(config, tmp_path / "again", imagenet)
    more_workers = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=1))
    check_same(json.loads(json.dumps(to_dict(config))), more_workers, tmp_path)
    loop.train(config, tmp_path / "again", imagenet)
    straight, again = last_state(workdir, config), last_state(tmp_path / "again", config)
    assert int(again.step) == 4
    jax.tree.map(np.testing.assert_array_equal, straight, again)
    written = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written if "train_loss" in line] == [1, 2, 3, 4]
    assert all(0 <= line["validation_accuracy_top5"] <= 1 for line in written if "validation_accuracy" in line)


def test_a_run_is_evaluated_on_the_split_that_it_has_not_seen(workdir: Path, imagenet: Path):
    evaluation = evaluate_workdir(workdir, datasets=None, checkpoint="last", data_dir=imagenet, force=False)
    result = evaluation["results"]["imagenet2012/test"]
    assert result["n"] == TEST
    assert result["accuracy_top5"] >= result["accuracy"]
    record = load_record(workdir / "predictions" / "imagenet2012-test-4.npz")
    assert record.logits.shape == (TEST, 1000)
    top5 = np.argsort(-record.logits, axis=1, kind="stable")[:, :5]
    assert result["accuracy_top5"] == np.mean((top5 == LABELS[:TEST, None]).any(axis=1))


def test_the_experiment_takes_two_steps(imagenet: Path, tmp_path: Path):
    path = Path(__file__).parents[1] / "configs" / "imagenet.py"
    tiny = ["epochs=1", "batch_size=8", "data.image_size=32", "data.validation_examples=5", "data.workers=0"]
    tiny += ["model.name=resnet8", "model.width=2", "log_every_steps=1"]
    config = load_config(str(path), [f"--config.{change}" for change in tiny])
    loop.train(config, tmp_path / "run", imagenet)
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written if "train_loss" in line] == [1, 2]
    # A tenth of the way from 0.1 to 0.4, and two.
    rates = [line["learning_rate"] for line in written if "train_loss" in line]
    np.testing.assert_allclose(rates, [0.13, 0.16], rtol=1e-6)


def test_what_is_there_is_described_and_what_is_not_is_asked_for(imagenet: Path, tmp_path: Path):
    said: list[str] = []
    prepare("imagenet2012", imagenet, said.append)
    assert "found as built" in said[0]
    lines = list(describe(SPEC, imagenet))
    assert any(f"train: {TRAIN} images" in line for line in lines)
    assert any(f"test: {TEST} images" in line for line in lines)
    with pytest.raises(InputError, match=r"put its files into .*ILSVRC2012_img_train.tar \(SHA-256 b08200a2"):
        prepare("imagenet2012", tmp_path, said.append)
    with pytest.raises(
        InputError, match=r"'imagenet2012' is not prepared .* run: python -m mixup_jax.data imagenet2012"
    ):
        load_training_data(DataConfig(name="imagenet2012"), tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(name="imagenet2012"), "data.crop is 'pad'.*expected 'random_resized', 0 and 0"),
        (DataConfig(crop="random_resized"), "data.crop is 'random_resized'.*expected 'pad' and 0"),
        (DataConfig(image_size=64), "data.image_size 64; expected 'pad' and 0"),
    ],
)
def test_augmentation_that_is_not_for_the_set_is_refused(data: DataConfig, message: str):
    with pytest.raises(InputError, match=message):
        check_config(Config(data=data))
