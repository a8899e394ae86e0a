"""A small imagenet2012 as tensorflow-datasets builds it: real JPEG files in array_record, made without TensorFlow."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

TRAIN, TEST = 22, 7


def label_of(number: int) -> int:
    """Returns the class of a photograph."""
    return number * 37 % 1000


LABELS = np.array([label_of(number) for number in range(TRAIN)])


def photograph(number: int) -> npt.NDArray[np.uint8]:
    """Smooth colours that tell where in the image a pixel is: red grows to the right and green downwards."""
    height, width = 40 + 7 * (number % 5), 90 - 11 * (number % 6)
    red = np.linspace(0, 255, width)[None].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([red, green, np.full_like(red, 8 * number % 256)], -1).astype(np.uint8)


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_imagenet(
    data_dir: Path,
    train: int = TRAIN,
    test: int = TEST,
    taken: Callable[[int], npt.NDArray[np.uint8]] = photograph,
) -> None:
    """Writes photographs, those for test after those for training, each split with LABELS; the last one is grey."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    builder = tfds.builder("imagenet2012", data_dir=str(data_dir), file_format="array_record")
    serializer = ExampleSerializer(builder.info.features.get_serialized_info())
    folder = Path(builder.data_dir)
    folder.mkdir(parents=True)
    infos = []
    for split, count in (("train", train), ("validation", test)):
        name = tfds.core.ShardedFileTemplate(
            folder, dataset_name="imagenet2012", split=split, filetype_suffix="array_record"
        )
        writer = ArrayRecordWriter(str(name.sharded_filepath(shard_index=0, num_shards=1)), "group_size:1")
        size = 0
        for number in range(count):
            pixels = taken(number + (train if split == "validation" else 0))
            grey = split == "validation" and number == count - 1
            image = jpeg(pixels[..., 0] if grey else pixels)
            example = {"image": image, "label": label_of(number), "file_name": f"{number}.JPEG"}
            record = serializer.serialize_example(example)
            writer.write(record)
            size += len(record)
        writer.close()
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=size, filename_template=name))
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.write_to_directory(str(folder))
