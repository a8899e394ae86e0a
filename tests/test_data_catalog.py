import dataclasses

import pytest

from mixup_jax.data.catalog import (
    ALIKE,
    CORRUPTED,
    CORRUPTIONS,
    DATASETS,
    SEVERITIES,
    check_ood_name,
    dataset_spec,
    imagenet_labels_not_in_stl10,
    training_spec,
)
from mixup_jax.data.prepare import SOURCES
from mixup_jax.data.sources import ORIGINALS
from mixup_jax.data.sources.texts import TREC_CLASSES, TREC_FILES
from mixup_jax.data.sources.tfds import originals_of
from mixup_jax.data.synthetic import NOISES
from mixup_jax.errors import InputError

OF_TFDS = [spec for spec in DATASETS.values() if spec.tfds_name]


@pytest.mark.parametrize("spec", [*DATASETS.values(), *CORRUPTED.values()], ids=[*DATASETS, *CORRUPTED])
def test_every_entry_agrees_with_itself(spec):
    assert dataset_spec(spec.name) is spec
    assert "test" in spec.splits
    assert len(spec.shape) == (3 if spec.task == "image" else 0)
    assert all(0 <= label < spec.classes for label in spec.keep_classes)
    # What is trained on is standardised.
    assert len(spec.mean) == len(spec.std) == (spec.shape[-1] if spec.trains and spec.task == "image" else 0)
    assert all(0 < value < 1 for value in (*spec.mean, *spec.std))
    # A variable within [0, 1] has variance at most mean (1 - mean).
    assert all(std**2 <= mean * (1 - mean) for mean, std in zip(spec.mean, spec.std, strict=True))


def test_each_set_has_origins_and_each_origin_has_a_set():
    assert {source for spec in DATASETS.values() for source in spec.sources} == set(SOURCES)
    assert set(ORIGINALS) <= set(DATASETS)
    assert all(spec.tfds_name for spec in DATASETS.values() if "tfds" in spec.sources)


def test_entries_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset_spec("mnist").classes = 11


@pytest.mark.parametrize("spec", OF_TFDS, ids=[spec.name for spec in OF_TFDS])
def test_names_shapes_and_classes_are_those_of_tensorflow_datasets(spec):
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.builder(spec.tfds_name, data_dir="/nonexistent").info.features
    assert features[spec.label].num_classes == spec.classes
    assert len(spec.class_names) in (0, spec.classes)
    names = features[spec.label].names  # numbers until tensorflow-datasets has read the file of the names
    assert names[0] == "0" or spec.class_names in ((), tuple(names))
    if spec.task == "text":
        assert str(features["text"].dtype) == "<class 'str'>" or features["text"].shape == ()
    elif not spec.resized and not spec.streams:
        assert features["image"].shape == spec.shape


def test_corruptions_are_all_those_of_tensorflow_datasets():
    tfds = pytest.importorskip("tensorflow_datasets")
    configs = {config.name for config in tfds.builder_cls("cifar10_corrupted").BUILDER_CONFIGS}
    assert {f"{kind}_{severity}" for kind in CORRUPTIONS for severity in SEVERITIES} == configs
    assert {spec.tfds_name.partition("/")[2] for spec in CORRUPTED.values()} == configs


@pytest.mark.parametrize("name", ["stl10", "cifar10", "cifar100", "kmnist", "dtd", "imdb", "cifar10_corrupted_fog_3"])
def test_the_files_to_put_into_the_manual_folder_are_those_that_tfds_checks(name):
    pytest.importorskip("tensorflow_datasets")
    published = originals_of(dataset_spec(name))
    assert published.url.startswith("http")
    assert published.url.endswith("/")
    for file, sha256 in published.sha256.items():
        assert "/" not in file
        assert len(sha256) == 64


def test_trec_is_read_from_the_files_and_in_the_classes_of_tfds():
    tfds = pytest.importorskip("tensorflow_datasets")
    assert set(originals_of(dataset_spec("trec")).sha256) == set(TREC_FILES.values())
    assert tuple(tfds.builder("trec", data_dir="/nonexistent").info.features["label-coarse"].names) == TREC_CLASSES


def test_imagenet_without_stl10_leaves_out_the_classes_of_its_rule():
    tfds = pytest.importorskip("tensorflow_datasets")
    names = tfds.builder("imagenet2012", data_dir="/nonexistent").info.features["label"].names
    kept = {names[label] for label in imagenet_labels_not_in_stl10()}
    # Airliner, cock, albatross, sports car, lynx, Chihuahua, hairless dog, sorrel, squirrel monkey, yawl, truck.
    alike = (
        "n02690373 n01514668 n02058221 n04285008 n02127052 n02085620 n02113978 n02389026 n02494079 n04612504 n04467665"
    )
    # Tench, dingo, leopard, zebra, gorilla, airship, school bus, tractor, construction crane.
    foreign = "n01440764 n02115641 n02128385 n02391049 n02480855 n02692877 n04146614 n04465501 n03126707"
    assert not kept & set(alike.split())
    assert set(foreign.split()) <= kept
    assert set(ALIKE) == {"airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"}
    assert len(kept) == len(imagenet_labels_not_in_stl10()) == 1000 - (3 + 59 + 13 + 7 + 118 + 1 + 13 + 15 + 7)


def test_unknown_data_set_lists_the_choices_and_the_nearest():
    with pytest.raises(InputError, match=r"unknown data set 'fashionmnist' \(did you mean 'fashion_mnist'\?\).*mnist"):
        dataset_spec("fashionmnist")


def test_what_cannot_be_trained_on_is_refused_with_what_can():
    assert training_spec("mr").task == "text"
    with pytest.raises(InputError, match=r"data.name is 'dtd', which serves for evaluation only; .*fashion_mnist"):
        training_spec("dtd")


@pytest.mark.parametrize("like", ["fashion_mnist", "cifar10", "mr"])
def test_out_of_distribution_names_are_the_other_sets_and_noises_of_the_task(like):
    like = dataset_spec(like)
    for entry in (*DATASETS.values(), *NOISES.values()):
        fits = entry.task == like.task and entry.name not in (like.name, "imagenet2012")
        if fits:
            check_ood_name(entry.name, like)
        else:
            with pytest.raises(InputError, match="out-of-distribution set"):
                check_ood_name(entry.name, like)


def test_wrong_out_of_distribution_names_list_the_choices():
    fashion = dataset_spec("fashion_mnist")
    check_ood_name("cifar10_corrupted_fog_3", fashion)
    with pytest.raises(InputError, match=r"unknown out-of-distribution set 'svhm'.*gaussian_noise.*mnist"):
        check_ood_name("svhm", fashion)
    with pytest.raises(InputError, match=r"'fashion_mnist' is the data set that is in-distribution here; .*: cifar"):
        check_ood_name("fashion_mnist", fashion)
    with pytest.raises(InputError, match="unknown out-of-distribution set"):
        check_ood_name("cifar10_corrupted_fog_3", dataset_spec("mr"))
