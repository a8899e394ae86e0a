"""Corruptions hold to their formulas: identity at 0, further away with severity, the same for the same seed."""

import numpy as np
import pytest

from mixup_jax.data.cache import arrays_folder, write_cache
from mixup_jax.data.catalog import check_ood_name, dataset_spec, is_shift
from mixup_jax.data.load import load_ood
from mixup_jax.data.sets import ExampleSet
from mixup_jax.data.synthetic import KINDS, PLANS, SEVERITIES, STRENGTHS, corrupt, corrupted_images
from mixup_jax.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_moves_further_with_severity_and_stays_at_severity_0(kind: str, image: np.ndarray):
    # A gentle ramp under the noise: rotated white noise is equally far from itself at any angle.
    ramp = np.linspace(0, 200, image.shape[0])[:, None, None] * np.ones(image.shape) + image / 8
    ramp = ramp.astype(np.uint8)
    np.testing.assert_array_equal(corrupt(ramp, kind, 0, 3), ramp)
    made = [corrupt(ramp, kind, severity, 3) for severity in SEVERITIES]
    distances = [float(np.abs(one.astype(float) - ramp).mean()) for one in made]
    assert 0 < distances[0] < distances[1] < distances[2]
    for one in made:
        assert one.shape == image.shape
        assert one.dtype == np.uint8


def test_blur_is_the_convolution_with_a_gaussian_and_keeps_the_mean():
    image = np.full((28, 28, 1), 0, np.uint8)
    image[14, 14] = 255
    blurred = corrupt(image, "blur", 2, 0).astype(float)[..., 0]
    deviation = STRENGTHS["blur"][2] * 28
    row, column = np.mgrid[:28, :28] - 14
    expected = np.exp(-(row**2 + column**2) / (2 * deviation**2))
    np.testing.assert_allclose(blurred, 255 * expected / expected.sum(), atol=0.6)
    flat = np.full((28, 28, 1), 77, np.uint8)
    np.testing.assert_array_equal(corrupt(flat, "blur", 3, 0), flat)


def test_noise_has_its_deviation_and_is_the_same_draw_at_every_severity():
    grey = np.full((200, 200, 1), 128, np.uint8)
    weak, strong = (corrupt(grey, "noise", severity, 5).astype(float) - 128 for severity in (1, 2))
    assert weak.std() == pytest.approx(255 * STRENGTHS["noise"][1], rel=0.02)
    assert abs(weak.mean()) < 0.5
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.98  # the strong one is clipped a little


def test_contrast_brings_pixels_towards_the_mean_of_their_channel():
    made = corrupt(COLOUR, "contrast", 2, 0).astype(float)
    mean = COLOUR.astype(float).mean(axis=(0, 1))
    np.testing.assert_allclose(made, mean + STRENGTHS["contrast"][2] * (COLOUR - mean), atol=0.5 + 1e-9)


def test_rotation_is_about_the_centre_to_either_side_and_black_outside():
    image = np.full((29, 29, 1), 200, np.uint8)
    image[2:6, 13:16] = 255
    sides = set()
    for seed in range(8):
        turned = corrupt(image, "rotation", 2, seed)[..., 0]
        assert turned[14, 14] == 200
        assert turned[0, 0] == 0
        sides.add(bool(turned[:14, :14].max() == 255))
    assert sides == {False, True}


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: str):
    np.testing.assert_array_equal(corrupt(GREY, kind, 2, 4), corrupt(GREY, kind, 2, 4))
    differs = any((corrupt(GREY, kind, 2, seed) != corrupt(GREY, kind, 2, 4)).any() for seed in range(8))
    assert differs == (kind in ("noise", "rotation"))


def test_the_mixture_goes_through_all_twelve_and_does_not_depend_on_how_many_images_there_are():
    images = np.stack([GREY] * 26)
    mixture = corrupted_images("corrupted", images)
    np.testing.assert_array_equal(mixture[:13], corrupted_images("corrupted", images[:13]))
    assert len(PLANS["corrupted"]) == 12
    for row in (0, 5, 12, 25):
        kind, severity = PLANS["corrupted"][row % 12]
        np.testing.assert_array_equal(mixture[row], corrupt(GREY, kind, severity, [0, row]))
    single = corrupted_images("corrupted_noise_2", images)
    np.testing.assert_array_equal(single[4], mixture[4])  # number 4 is the noise of severity 2


def test_a_network_of_any_images_gets_the_corrupted_test_set_with_its_labels(tmp_path):
    spec = dataset_spec("fashion_mnist")
    clean = ExampleSet(np.stack([GREY] * 14), np.arange(14, dtype=np.int32) % 10, "made up")
    write_cache(arrays_folder(tmp_path, "fashion_mnist"), {"test": clean})
    made = load_ood("corrupted", spec, tmp_path)
    np.testing.assert_array_equal(made.labels, clean.labels)
    np.testing.assert_array_equal(made.inputs, corrupted_images("corrupted", clean.inputs))
    assert is_shift("corrupted_blur_1", spec)
    check_ood_name("corrupted_rotation_3", dataset_spec("cifar100"))
    for name, like in (("corrupted_fog_1", "fashion_mnist"), ("corrupted", "mr"), ("corrupted", "imagenet2012")):
        with pytest.raises(InputError, match="unknown out-of-distribution set"):
            check_ood_name(name, dataset_spec(like))
