"""The same run on 1, 2, 4 and 8 devices, by jit and by pmap, compared in float64 (float32 would show rounding only)."""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_networks import Convolution

from mixup_jax.data.resident import Resident, epoch_order
from mixup_jax.errors import InputError
from mixup_jax.method import Method
from mixup_jax.training.parallel import AXIS, check_divisible, device_mesh, make_resident_step, replicate
from mixup_jax.training.state import create_state, run_keys
from mixup_jax.training.step import make_train_step

KEYS = run_keys(0)
METHOD = Method(mixup_alpha=0.5, group_size=4)
# Between them every number of a method, and dropout.
METHODS = {
    "mixup": METHOD,
    "manifold_regmixup_arc": Method(
        mixup_alpha=0.5,
        group_size=4,
        layer="random",
        clean_weight=0.4,
        arc_weight=3.0,
        label_smoothing=0.1,
        entropy_weight=0.1,
    ),
    "feature_only_cutmix_arc": Method(
        mixup_alpha=1.0, group_size=4, cut=True, scope="example", mix_labels=False, arc_weight=3.0
    ),
}


@lru_cache
def trained(parallel: str, devices: int, name: str = "mixup") -> dict[str, Any]:
    """Five steps with crops, flips, mixing and (but for mixup) dropout; returns its end and every step's metrics."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (90, 6, 6, 1), dtype=np.uint8)
    labels = generator.integers(0, 5, 90).astype(np.int32)
    axis_name = AXIS if parallel == "pmap" else None
    with jax.enable_x64(True):
        mesh = device_mesh(jax.devices()[:devices])
        optimizer = optax.sgd(0.1, momentum=0.9, nesterov=True)
        step = make_resident_step(
            make_train_step(
                Convolution(axis_name, rate=0.0 if name == "mixup" else 0.3),
                optimizer,
                METHOD,
                classes=5,
                standardise=lambda x: x / 255.0,
                axis_name=axis_name,
            ),
            mesh,
            parallel=parallel,
            batch_size=32,
            padding=1,
            flip=True,
            rotation=15.0,
            augment_key=KEYS.augment,
            step_key=KEYS.step,
        )
        state = replicate(mesh, create_state(Convolution(), optimizer, KEYS.init, (6, 6, 1)))
        resident = replicate(mesh, Resident(jnp.asarray(images), jnp.asarray(labels)))
        history = []
        for number in range(5):
            order = replicate(mesh, epoch_order(KEYS.order, number // 2, 90))
            donated = state
            state, metrics = step(state, resident, order)
            history.append(jax.device_get(metrics))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(donated))
        return {"state": jax.device_get(state), "history": history}


@pytest.mark.parametrize(("parallel", "devices"), [("jit", 4), ("jit", 8), ("pmap", 2), ("pmap", 8)])
def test_the_run_does_not_depend_on_devices_or_on_how_they_are_used(parallel: str, devices: int):
    reference, other = trained("jit", 1), trained(parallel, devices)
    # lambda stays float32, and its last bit may differ from program to program; other pairs would differ by percents.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8), other, reference)


@pytest.mark.parametrize("name", ["manifold_regmixup_arc", "feature_only_cutmix_arc"])
@pytest.mark.parametrize(("parallel", "devices"), [("jit", 8), ("pmap", 8)])
def test_neither_does_any_other_method_nor_dropout(parallel: str, devices: int, name: str):
    reference, other = trained("jit", 1, name), trained(parallel, devices, name)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8), other, reference)


def test_training_moves_the_parameters():
    run = trained("jit", 1)
    assert run["history"][0]["mixing"] != run["history"][1]["mixing"]
    assert run["history"][0]["loss"] != run["history"][4]["loss"]


def test_devices_must_share_a_batch_equally():
    with pytest.raises(
        InputError, match="batch_size is 100, which 8 devices cannot share equally; expected a multiple"
    ):
        check_divisible(100, METHOD, 8, "jit")
    check_divisible(96, METHOD, 8, "jit")


def test_under_pmap_a_device_must_hold_whole_groups():
    whole_batch = Method(mixup_alpha=0.2)
    with pytest.raises(
        InputError, match=r"method.group_size is 128, but under parallel=pmap each of 8 devices holds 16"
    ):
        check_divisible(128, whole_batch, 8, "pmap")
    check_divisible(128, whole_batch, 8, "jit")
    check_divisible(128, whole_batch, 1, "pmap")
    check_divisible(128, Method(), 8, "pmap")
    check_divisible(128, Method(mixup_alpha=0.2, group_size=16), 8, "pmap")
