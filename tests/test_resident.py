from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mixup_jax.config import DataConfig
from mixup_jax.data.augment import augment_batch, draw_crops, transform
from mixup_jax.data.feed import Resident, batch_rows, epoch_order, gather_batch


def test_an_epoch_visits_examples_once_and_epochs_differ():
    key = jax.random.key(0)
    first, second = epoch_order(key, 0, 50), epoch_order(key, 1, 50)
    np.testing.assert_array_equal(np.sort(first), np.arange(50))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, epoch_order(key, 0, 50))


def test_the_steps_of_an_epoch_share_out_its_order_and_leave_the_remainder():
    order = epoch_order(jax.random.key(0), 3, 50)
    steps = [np.asarray(batch_rows(order, jnp.int32(3 * 6 + i), 8)) for i in range(6)]
    np.testing.assert_array_equal(np.concatenate(steps), order[:48])


def test_a_batch_holds_the_images_and_labels_of_its_rows():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    resident = Resident(jnp.asarray(images), jnp.arange(10) * 2)
    rows = jnp.array([7, 1, 7])
    batch = gather_batch(resident, rows)
    np.testing.assert_array_equal(batch.inputs, images[[7, 1, 7]])
    np.testing.assert_array_equal(batch.labels, [14, 2, 14])
    np.testing.assert_array_equal(batch.weights, [1, 1, 1])


def test_the_crops_of_a_batch_are_applied_to_a_devices_part_of_it():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), dtype=np.uint8))
    key, config = jax.random.key(1), DataConfig(crop_padding=2)
    crops = draw_crops(key, 4, padding=2, flip=True)
    half = partial(jax.tree.map, lambda rows: rows[2:])
    np.testing.assert_array_equal(
        augment_batch(images, config, key, 4, half), transform(images, half(crops), padding=2)
    )
