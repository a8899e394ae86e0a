import dataclasses

import numpy as np
import pytest
from scipy import stats

from mixup_jax.data.catalog import DATASETS
from mixup_jax.data.images import match_shape
from mixup_jax.data.load import load_ood
from mixup_jax.data.synthetic import NOISES, noise_images
from mixup_jax.errors import InputError

GREY = DATASETS["fashion_mnist"]
COLOUR = dataclasses.replace(GREY, name="colours", shape=(16, 16, 3), mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))


def clipped_normal_moments(mean, std):
    # E min(max(X, 0), 1) and its second moment, for X ~ N(mean, std^2).
    normal = stats.norm(mean, std)
    inside = stats.truncnorm(-mean / std, (1 - mean) / std, mean, std)
    share = normal.cdf(1) - normal.cdf(0)
    first = share * inside.mean() + normal.sf(1)
    second = share * (inside.var() + inside.mean() ** 2) + normal.sf(1)
    return first, np.sqrt(second - first**2)


@pytest.mark.parametrize("like", [GREY, COLOUR], ids=["grey", "colour"])
def test_unclipped_noise_is_normal_with_the_training_moments_per_channel(like):
    images = noise_images(NOISES["gaussian_noise"], like, 1000, 0)
    assert images.dtype == np.float32
    assert images.shape == (1000, *like.shape)
    for channel, (mean, std) in enumerate(zip(like.mean, like.std, strict=True)):
        pixels = images[..., channel].ravel().astype(float) / 255
        error = std / np.sqrt(pixels.size)
        assert abs(pixels.mean() - mean) < 5 * error
        assert abs(pixels.std() - std) < 5 * error
        assert stats.kstest(pixels[::10], stats.norm(mean, std).cdf).pvalue > 1e-4


@pytest.mark.parametrize("like", [GREY, COLOUR], ids=["grey", "colour"])
def test_clipped_noise_has_the_moments_of_a_clipped_normal(like):
    images = noise_images(NOISES["gaussian_noise_clipped"], like, 1000, 0)
    assert images.dtype == np.uint8
    for channel, (mean, std) in enumerate(zip(like.mean, like.std, strict=True)):
        pixels = images[..., channel].astype(float) / 255
        expected_mean, expected_std = clipped_normal_moments(mean, std)
        tolerance = 5 * std / np.sqrt(pixels.size) + 1e-4
        assert abs(pixels.mean() - expected_mean) < tolerance
        assert abs(pixels.std() - expected_std) < tolerance


def test_clipped_noise_is_the_unclipped_draw_rounded_and_clipped():
    plain = noise_images(NOISES["gaussian_noise"], GREY, 20, 3)
    clipped = noise_images(NOISES["gaussian_noise_clipped"], GREY, 20, 3)
    np.testing.assert_array_equal(clipped, np.minimum(np.maximum(np.round(plain), 0), 255))


def test_noise_depends_on_seed_and_training_set_only():
    def draw(like=GREY, n=10, seed=0):
        return noise_images(NOISES["gaussian_noise"], like, n, seed)

    np.testing.assert_array_equal(draw(), draw())
    np.testing.assert_array_equal(draw(n=4), draw()[:4])
    assert not np.array_equal(draw(), draw(seed=1))
    assert not np.array_equal(draw(), draw(like=dataclasses.replace(GREY, name="other")))


def test_noise_set_needs_no_data_and_has_no_labels(tmp_path):
    arrays = load_ood("gaussian_noise", GREY, tmp_path / "nothing", n=7, seed=5)
    assert arrays.inputs.shape == (7, 28, 28, 1)
    assert arrays.labels.dtype == np.int32
    assert arrays.labels.tolist() == [-1] * 7
    assert "fashion_mnist" in arrays.source
    assert "seed 5" in arrays.source
    assert not (tmp_path / "nothing").exists()


def test_no_images_of_noise_is_refused(tmp_path):
    with pytest.raises(InputError, match="n=0"):
        load_ood("gaussian_noise", GREY, tmp_path, n=0)


def test_matching_images_are_returned_unchanged():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    assert match_shape(images, (28, 28, 1)) is images


def test_constant_images_stay_constant_when_resized_and_repeated():
    images = np.full((2, 28, 28, 1), 77, np.uint8)
    matched = match_shape(images, (32, 20, 3))
    assert matched.shape == (2, 32, 20, 3)
    assert matched.dtype == np.uint8
    assert (matched == 77).all()


def test_colours_become_grey_by_luma():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8).reshape(4, 1, 1, 3)
    grey = match_shape(np.tile(colours, (1, 5, 5, 1)), (5, 5, 1))[:, 0, 0, 0]
    np.testing.assert_allclose(grey, 255 * np.array([0.299, 0.587, 0.114, 1.0]), atol=1)


def test_resizing_keeps_height_and_width_apart():
    images = np.zeros((1, 8, 8, 1), np.uint8)
    images[:, :4] = 200  # the upper half is bright
    matched = match_shape(images, (4, 16, 1))[0, :, :, 0]
    assert matched.shape == (4, 16)
    assert (matched[0] > 150).all()
    assert (matched[-1] < 50).all()


def test_taller_images_lose_their_ends_and_keep_their_middle():
    images = np.zeros((1, 30, 10, 3), np.uint8)
    images[:, 10:20] = 200
    np.testing.assert_array_equal(match_shape(images, (5, 5, 3)), 200)


@pytest.mark.parametrize(("name", "scale"), [("gaussian_noise_x0.5", 0.5), ("gaussian_noise_x2", 2.0)])
def test_scaled_noise_is_the_same_draw_farther_from_the_mean(name, scale):
    plain = noise_images(NOISES["gaussian_noise"], COLOUR, 20, 3)
    scaled = noise_images(NOISES[name], COLOUR, 20, 3)
    centre = 255 * np.array(COLOUR.mean)
    np.testing.assert_allclose(scaled - centre, scale * (plain - centre), atol=1e-3)


@pytest.mark.parametrize(("name", "low", "high"), [("uniform_noise", 0, 255), ("uniform_noise_x0.5", 64, 191)])
def test_uniform_noise_is_uniform_over_its_pixel_values(name: str, low: int, high: int):
    images = noise_images(NOISES[name], GREY, 1000, 0)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (low, high)
    assert stats.chisquare(np.bincount(images.ravel(), minlength=256)[low : high + 1]).pvalue > 1e-4
