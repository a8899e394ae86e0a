"""RandAugment, TrivialAugment and random erasing, held against Pillow."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from mixup_jax.config import DataConfig
from mixup_jax.data import random_augment as ra

GENERATOR = np.random.default_rng(0)
# A ramp with noise: neither flat nor of the whole range of values.
RAMP = np.linspace(30, 190, 40)[:, None, None] + GENERATOR.normal(0, 12, (40, 32, 3)) + np.array([0, 25, 40])
COLOUR = np.clip(RAMP, 0, 255).astype(np.uint8)
GREY = COLOUR[..., :1]
FLAT = np.full((8, 8, 3), 77, np.uint8)
RANGES = ra.RANGES["randaugment"]


def picture(image: Any) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


PILLOW = {
    "identity": lambda image, m: image,
    "shear_x": lambda image, m: affine(image, 1, 0.3 * m, 0, 0, 1, 0),
    "shear_y": lambda image, m: affine(image, 1, 0, 0, 0.3 * m, 1, 0),
    "translate_x": lambda image, m: affine(image, 1, 0, int(150 / 331 * image.width * m), 0, 1, 0),
    "translate_y": lambda image, m: affine(image, 1, 0, 0, 0, 1, int(150 / 331 * image.height * m)),
    "rotate": lambda image, m: image.rotate(-30 * m),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(1 + 0.9 * m),
    "color": lambda image, m: ImageEnhance.Color(image).enhance(1 + 0.9 * m),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(1 + 0.9 * m),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * m),
    "posterize": lambda image, m: ImageOps.posterize(image, 8 - round(4 * abs(m))),
    "solarize": lambda image, m: ImageOps.solarize(image, round(255 * (1 - abs(m)))),
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
}
apply = jax.jit(ra.apply, static_argnums=2)


@pytest.mark.parametrize("image", [COLOUR, GREY, FLAT], ids=["colour", "grey", "flat"])
def test_each_operation_is_pillows(image: Any):
    assert tuple(PILLOW) == ra.OPERATIONS
    cases = [(number, level, sign) for number in range(14) for level in (0.0, 0.3, 0.8) for sign in (1.0, -1.0)]
    operation, strength, sign = map(np.array, zip(*cases, strict=True))
    drawn = ra.Drawn(operation[:, None], strength[:, None].astype(np.float32), sign[:, None].astype(np.float32))
    found = np.asarray(apply(np.broadcast_to(image, (len(cases), *image.shape)), drawn, RANGES))
    for (number, level, side), result in zip(cases, found, strict=True):
        name = ra.OPERATIONS[number]
        wanted = np.asarray(PILLOW[name](picture(image), level * side)).reshape(image.shape)
        # Rounding decides between neighbouring pixels of a warp, and between whole numbers.
        warped = name in ("shear_x", "shear_y", "rotate")
        off = np.abs(result.astype(int) - wanted)
        assert np.mean(off > (0 if warped else 1)) <= (0.02 if warped else 0), (name, level, side)
        assert np.mean(off > 0) < 0.02, (name, level, side)


def test_operations_are_equally_likely_and_layers_follow_each_other():
    data = DataConfig(policy="randaugment", policy_layers=3, policy_strength=15)
    drawn = ra.draw(jax.random.key(0), 4000, data)
    counts = np.bincount(np.asarray(drawn.operation).ravel(), minlength=14)
    assert np.abs(counts / 12000 - 1 / 14).max() < 0.01
    assert set(np.unique(drawn.strength)) == {0.5}
    assert abs(float(jnp.mean(drawn.sign))) < 0.05
    two = ra.Drawn(*(part[:1, :2] for part in drawn))
    first, second = (ra.Drawn(*(part[:1, layer : layer + 1] for part in drawn)) for layer in (0, 1))
    one_by_one = apply(apply(COLOUR[None], first, RANGES), second, RANGES)
    np.testing.assert_array_equal(apply(COLOUR[None], two, RANGES), one_by_one)
    trivial = ra.draw(jax.random.key(0), 4000, DataConfig(policy="trivialaugment"))
    assert trivial.operation.shape == (4000, 1)
    np.testing.assert_allclose(np.unique(trivial.strength), np.arange(31) / 30, rtol=1e-6)


def test_a_box_of_some_images_is_erased():
    keys = jax.random.split(jax.random.key(1), 600)
    out = np.asarray(jax.vmap(lambda key: ra.erase(jnp.zeros((24, 30, 1), jnp.uint8), key, 0.25))(keys))[..., 0]
    erased = out != 0  # a random pixel is 0 once in 256
    assert abs(np.mean(erased.any(axis=(1, 2))) - 0.25) < 0.05
    for one in erased[erased.any(axis=(1, 2))]:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        box = one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.9
        assert 0.01 < box.size / one.size < 0.36


def test_a_device_draws_for_the_whole_batch_and_keeps_its_rows():
    data = DataConfig(policy="trivialaugment", erase=0.5)
    images, key = np.broadcast_to(COLOUR, (4, *COLOUR.shape)), jax.random.key(2)

    @jax.jit
    def both(images: jax.Array, key: jax.Array) -> Any:
        whole = ra.augmented(images, data, key, 4, lambda drawn: drawn)
        half = ra.augmented(images[2:], data, key, 4, lambda drawn: jax.tree.map(lambda part: part[2:], drawn))
        return whole, half

    whole, half = both(images, key)
    np.testing.assert_array_equal(whole[2:], half)
    assert len({np.asarray(one).tobytes() for one in whole}) == 4
