"""Our input pipelines: photographs a second against a torch DataLoader and tf.data, and waiting for resident examples.

    pip install "mixup_jax[stream,tensorflow]" torch
    python benchmarks/input.py [--write]

The photographs are made up, 500x375 JPEG files of ImageNet's mean size in bytes.  All sides decode them, cut at random
(8 % to 100 % of the area, as torchvision does), bring the crop to 224x224 and make batches of 128, in as many processes
or threads as the machine has cores.  Ours ends with uint8 pixels, since mirroring and standardising are part of the
step on the device; the others do both, as their users' code does.  PyTorch's reads files one by one with Pillow, and
its transform is written here as torchvision has it; that of tf.data decodes only the crop.
"""

import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from document import machine, table
from networks import BATCH, CASES, EXAMPLES
from side_by_side import ROOT, Run, Side, medians, parser, publish

sys.path.append(str(ROOT / "tests"))

SIZE, PHOTOGRAPHS = 224, 512
MADE_AHEAD = 6
"""The most batches that a side may make while it is not its turn; they are taken before the clock runs."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEADER = ("side", "photographs a second and core", "ours / it")


def photograph(number: int) -> npt.NDArray[np.uint8]:
    """Returns a picture of edges, shades and grain, which JPEG makes about as large as a real one."""
    from PIL import Image

    generator = np.random.default_rng(number)
    layers = [generator.normal(0, 1, (375 // scale + 1, 500 // scale + 1, 3)) * scale**0.7 for scale in (3, 12, 60)]
    shown = sum(
        np.stack(
            [np.asarray(Image.fromarray(layer[..., c]).resize((500, 375), Image.Resampling.BICUBIC)) for c in range(3)],
            -1,
        )
        for layer in layers
    )
    return np.clip(128 + 9 * shown, 0, 255).astype(np.uint8)


def write_photographs(folder: Path) -> int:
    """Writes the photographs as tensorflow-datasets has them and as single files; returns their mean size in bytes."""
    from photographs import jpeg, write_imagenet

    pictures = [photograph(number) for number in range(64)]
    write_imagenet(folder, PHOTOGRAPHS, 2, lambda number: pictures[number % len(pictures)])
    files = [jpeg(picture) for picture in pictures]
    for number in range(PHOTOGRAPHS):
        (folder / f"{number}.jpg").write_bytes(files[number % len(files)])
    return sum(map(len, files)) // len(files)


def ours(folder: Path, workers: int, batch: int) -> Run:
    """The batches of a streamed run."""
    from mixup_jax.data.catalog import dataset_spec
    from mixup_jax.data.stream import Records, StreamedImages, TrainingBatches, ahead

    images = StreamedImages(Records(dataset_spec("imagenet2012"), "train", folder), np.arange(PHOTOGRAPHS), workers)
    made = TrainingBatches(images, seed=0, batch_size=batch, epochs=10_000, rows=range(batch))
    return batches(ahead(made, workers))


def batches(iterator: Iterator[Any]) -> Run:
    def take(count: int) -> None:
        for _ in range(count):
            next(iterator)

    take(4)
    return take


class Files:
    """A torch data set of image files with the usual training transform of torchvision."""

    def __init__(self, folder: Path) -> None:
        self.files = [folder / f"{number}.jpg" for number in range(PHOTOGRAPHS)]

    def __len__(self) -> int:
        return 1000 * len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch
        from PIL import Image

        with open(self.files[index % len(self.files)], "rb") as file:
            image = Image.open(file).convert("RGB")
        image = image.crop(random_crop(*image.size)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        return tensor.sub_(mean).div_(std), index % 1000


def random_crop(width: int, height: int) -> tuple[int, int, int, int]:
    """Returns the corners of a random-resized crop, drawn as torchvision draws it."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left, top = random.randint(0, width - across), random.randint(0, height - down)
            return left, top, left + across, top + down
    return 0, 0, width, height


def torch_loader(folder: Path, workers: int, batch: int) -> Run:
    """A DataLoader with one process a core."""
    from torch.utils.data import DataLoader

    return batches(iter(DataLoader(Files(folder), batch, shuffle=True, num_workers=workers, drop_last=True)))


def tf_data(folder: Path, workers: int, batch: int) -> Run:
    """The input pipeline of TensorFlow's ImageNet examples, on the same files."""
    from mixup_jax.libraries import load_tensorflow

    load_tensorflow()
    import tensorflow as tf

    def prepare(file: Any) -> Any:
        data = tf.io.read_file(file)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(data),
            tf.zeros((1, 0, 4)),
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.random_flip_left_right(tf.image.resize(image, (SIZE, SIZE)))
        return (image / 255 - tf.constant(MEAN)) / tf.constant(STD)

    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    names = [str(folder / f"{number}.jpg") for number in range(PHOTOGRAPHS)]
    made = tf.data.Dataset.from_tensor_slices(names).shuffle(PHOTOGRAPHS).repeat()
    made = made.map(prepare, num_parallel_calls=workers).batch(batch, drop_remainder=True).prefetch(2)
    return batches(iter(made.with_options(options)))


def waiting_share() -> tuple[float, float]:
    """Returns the milliseconds of a step on resident examples, and the share spent waiting for the batch."""
    import jax

    from mixup_jax.data.sets import ExampleSet
    from mixup_jax.training.trainer import prepare

    case, steps = CASES[0], 16
    run, state = prepare(case.config, case.spec, EXAMPLES // BATCH)
    feed = run.batches(ExampleSet(*case.examples(), "random"), 0)
    state, metrics = run.step(state, *next(feed))
    jax.block_until_ready(metrics)
    waited, start = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(feed)
        waited += time.perf_counter() - asked
        state, metrics = run.step(state, *batch)
        jax.block_until_ready(metrics)
    total = time.perf_counter() - start
    return 1000 * total / steps, waited / total


def main() -> None:
    flags = parser(__doc__, rounds=3)
    flags.add_argument("--batch", type=int, default=BATCH, help="photographs a batch (default: %(default)s)")
    arguments = flags.parse_args()
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_photographs(folder)
        peers = {"torch DataLoader": torch_loader, "tf.data": tf_data}
        times = {}
        for label, peer in peers.items():
            with (
                Side(ours, folder, workers, arguments.batch) as own,
                Side(peer, folder, workers, arguments.batch) as other,
            ):
                times[label] = medians([own, other], rounds=arguments.rounds, seconds_a_turn=4, lead=MADE_AHEAD)
    rows = []
    for label, both in times.items():
        speeds = [arguments.batch / seconds / workers for seconds in both]
        rows += [["ours", f"{speeds[0]:.0f}", ""], [label, f"{speeds[1]:.0f}", f"{speeds[0] / speeds[1]:.2f}"]]
    milliseconds, share = waiting_share()
    lines = [
        *table(HEADER, rows),
        "",
        f"Files of {size / 1024:.0f} KiB. Of a step of {milliseconds:.0f} ms on resident examples ({CASES[0].label}), "
        f"{share:.2%} went into waiting for the batch.",
        "",
        machine("jax", "grain", "pillow", "torch", "tensorflow-cpu"),
    ]
    publish("input", lines, arguments.write)


if __name__ == "__main__":
    main()
