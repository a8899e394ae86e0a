import dataclasses

import pytest

from mixup_jax.data.catalog import DATASETS, NOISES, check_ood_name, dataset_spec
from mixup_jax.data.originals import ORIGINALS
from mixup_jax.data.prepare import FALLBACKS
from mixup_jax.errors import InputError


@pytest.mark.parametrize("spec", DATASETS.values(), ids=list(DATASETS))
def test_every_entry_agrees_with_itself(spec):
    assert DATASETS[spec.name] is spec
    assert len(spec.class_names) == len(set(spec.class_names)) == spec.classes
    assert len(spec.mean) == len(spec.std) == spec.shape[-1]
    assert all(0 < value < 1 for value in (*spec.mean, *spec.std))
    # A variable within [0, 1] has variance at most mean (1 - mean).
    assert all(std**2 <= mean * (1 - mean) for mean, std in zip(spec.mean, spec.std, strict=True))
    assert "test" in spec.splits


def test_every_set_has_published_files_and_a_fallback():
    assert set(DATASETS) == set(ORIGINALS) == set(FALLBACKS)


def test_entries_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset_spec("mnist").classes = 11


def test_names_and_shapes_are_those_of_tensorflow_datasets():
    tfds = pytest.importorskip("tensorflow_datasets")
    for spec in DATASETS.values():
        features = tfds.builder(spec.tfds_name, data_dir="/nonexistent").info.features
        assert features["image"].shape == spec.shape
        assert features["label"].num_classes == spec.classes
        if not features["label"].names[0].isdigit():
            assert tuple(features["label"].names) == spec.class_names


def test_unknown_data_set_lists_the_choices_and_the_nearest():
    with pytest.raises(InputError, match=r"unknown data set 'fashionmnist' \(did you mean 'fashion_mnist'\?\).*mnist"):
        dataset_spec("fashionmnist")


def test_out_of_distribution_names_are_the_other_data_sets_and_noises():
    fashion = dataset_spec("fashion_mnist")
    for name in (*DATASETS, *NOISES):
        if name != "fashion_mnist":
            check_ood_name(name, fashion)
    with pytest.raises(InputError, match=r"unknown out-of-distribution set 'svhm'.*gaussian_noise.*mnist"):
        check_ood_name("svhm", fashion)
    with pytest.raises(InputError, match=r"'fashion_mnist' is the data set that is in-distribution here; .*: gauss"):
        check_ood_name("fashion_mnist", fashion)
