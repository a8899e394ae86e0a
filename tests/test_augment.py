import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.stats

from mixup_jax.data.augment import Crops, draw_crops, rotate, standardise, transform

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 2), dtype=np.uint8)


def test_a_crop_is_a_window_of_the_zero_padded_image_mirrored_or_not():
    corner = np.array([[0, 0], [2, 2], [4, 4], [0, 4], [3, 1], [2, 2]])
    mirrored = np.array([False, False, True, True, False, True])
    out = np.asarray(transform(jnp.asarray(IMAGES), Crops(jnp.asarray(corner), jnp.asarray(mirrored)), padding=2))
    assert out.dtype == np.uint8
    for image, (row, column), mirror, got in zip(IMAGES, corner, mirrored, out, strict=True):
        window = np.pad(image, ((2, 2), (2, 2), (0, 0)))[row : row + 5, column : column + 7]
        np.testing.assert_array_equal(got, window[:, ::-1] if mirror else window)


def test_every_shift_and_both_mirrors_come_up_equally_often():
    crops = draw_crops(jax.random.key(0), 20_000, padding=2, flip=True)
    counts = np.bincount(np.asarray(crops.corner[:, 0] * 5 + crops.corner[:, 1]), minlength=25)
    np.testing.assert_allclose(counts / 20_000, 1 / 25, atol=0.006)
    np.testing.assert_allclose(np.mean(crops.mirrored), 0.5, atol=0.02)


def test_without_padding_and_flip_the_images_are_left_alone():
    crops = draw_crops(jax.random.key(0), 6, padding=0, flip=False)
    np.testing.assert_array_equal(transform(jnp.asarray(IMAGES), crops, padding=0), IMAGES)


def test_a_quarter_turn_is_numpys_and_no_turn_leaves_every_pixel():
    square = jnp.asarray(IMAGES[0, :, :5])
    np.testing.assert_array_equal(rotate(square, jnp.float32(np.pi / 2)), np.rot90(square))
    np.testing.assert_array_equal(rotate(square, jnp.float32(-np.pi / 2)), np.rot90(square, -1))
    np.testing.assert_array_equal(rotate(square, jnp.float32(0)), square)


def test_a_small_turn_agrees_with_scipy():
    image = np.random.default_rng(1).uniform(0, 255, (9, 9, 1)).astype(np.float32)
    expected = scipy.ndimage.rotate(image[..., 0], 10, reshape=False, order=1, mode="constant")
    got = np.asarray(rotate(jnp.asarray(image), jnp.float32(np.radians(10))))[..., 0]
    # Outside the image scipy's constant mode cuts off where ours still interpolates with black.
    np.testing.assert_allclose(got[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-2)


def test_angles_are_uniform_up_to_the_largest_and_change_neither_shift_nor_mirror():
    turned = draw_crops(jax.random.key(0), 20_000, padding=2, flip=True, rotation=15)
    still = draw_crops(jax.random.key(0), 20_000, padding=2, flip=True)
    degrees = np.degrees(np.asarray(turned.angle))
    assert scipy.stats.kstest(degrees, "uniform", args=(-15, 30)).pvalue > 0.01
    np.testing.assert_array_equal(turned.corner, still.corner)
    np.testing.assert_array_equal(turned.mirrored, still.mirrored)
    assert still.angle is None


def test_standardise_is_per_channel_and_takes_pixel_units():
    out = standardise(jnp.asarray(IMAGES), (0.5, 0.25), (0.2, 0.1))
    np.testing.assert_allclose(out, (IMAGES / 255.0 - [0.5, 0.25]) / [0.2, 0.1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(out, standardise(jnp.asarray(IMAGES, jnp.float32), (0.5, 0.25), (0.2, 0.1)))
