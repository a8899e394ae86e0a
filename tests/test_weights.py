"""Weights of PyTorch's networks: read without torch, and with the logits that torch computed."""

import contextlib
import dataclasses
import json
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixup_jax.config import ModelConfig
from mixup_jax.errors import InputError
from mixup_jax.evaluate import main as evaluate
from mixup_jax.main import main as train
from mixup_jax.models import model_of, shapes_of
from mixup_jax.models.layers import Layers, pads
from mixup_jax.store.weights import fitted, from_torch, read_weights

GOLDEN = Path(__file__).parent / "golden"
FILES = ("torch_resnet.pth", "torch_resnet_legacy.pth", "torch_resnet_checkpoint.pth", "torch_resnet.safetensors")
RESNET = ModelConfig(name="resnet8", width=2, stem="imagenet", padding="torch")


def flat(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nested(weights: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in weights.items():
        *groups, leaf = name.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = jnp.asarray(array)
    return tree


def logits_of(config: ModelConfig, weights: dict[str, Any], images: Any, classes: int) -> Any:
    model = model_of(config, classes=classes)
    shapes = {name: leaf.shape for name, leaf in flat(shapes_of(model, images.shape[1:])).items()}
    taken, lines = fitted(weights, shapes, "the file")
    assert not lines
    return jax.jit(lambda v, x: model.apply(v, x, train=False))(nested(taken), images)


@pytest.mark.parametrize("side", [32, 33])
def test_the_logits_are_those_of_torch(side: int):
    weights = [from_torch(read_weights(GOLDEN / name), name) for name in FILES]
    for other in weights[1:]:
        assert other.keys() == weights[0].keys()
        assert all(np.array_equal(other[name], weights[0][name]) for name in other)
    with np.load(GOLDEN / "torch_resnet.npz") as golden:
        images, wanted = golden[f"images_{side}"], golden[f"logits_{side}"]
    found = logits_of(RESNET, weights[0], images, 5)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    if side == 32:  # on an even side the paddings differ
        other = logits_of(dataclasses.replace(RESNET, padding="same"), weights[0], images, 5)
        assert np.abs(other - wanted).max() > 1e-3


@pytest.mark.parametrize(("size", "stride", "side"), [(3, 1, 6), (3, 2, 6), (3, 2, 7), (7, 2, 8), (1, 2, 5)])
def test_torchs_padding_is_that_of_all_four_sides(size: int, stride: int, side: int):
    """The convolution written out: a window of zeros and pixels, (size - 1) / 2 zeros on each side."""
    generator = np.random.default_rng(0)
    image, kernel = generator.normal(size=(side, side)), generator.normal(size=(size, size))
    border = (size - 1) // 2
    padded, across = np.pad(image, border), (side + 2 * border - size) // stride + 1
    wanted = [
        [np.sum(kernel * padded[y : y + size, x : x + size]) for x in range(0, across * stride, stride)]
        for y in range(0, across * stride, stride)
    ]
    conv = Layers(train=False, padding="torch").conv(1, size, stride, name="conv")
    found = conv.apply({"params": {"kernel": kernel[:, :, None, None]}}, image[None, :, :, None])
    np.testing.assert_allclose(found[0, :, :, 0], wanted, rtol=1e-4, atol=1e-5)
    assert pads(size, "same") == "SAME"


def test_a_new_head_and_a_grey_stem_are_said():
    weights = from_torch(read_weights(GOLDEN / FILES[0]), "file")
    shapes = {name: array.shape for name, array in weights.items()}
    shapes |= {"params/head/kernel": (8, 10), "params/head/bias": (10,), "params/stem/kernel": (7, 7, 1, 2)}
    taken, lines = fitted(weights, shapes, "file")
    assert taken.keys() == {name for name in shapes if "head" not in name}
    np.testing.assert_allclose(taken["params/stem/kernel"][:, :, 0], weights["params/stem/kernel"].sum(axis=2))
    assert any("the head of 5 classes is replaced by a new one of 10" in line for line in lines)
    assert any("summed over the channels" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shapes: shapes | {"params/more/bias": (3,)}, r"have no params/more/bias; expected those of the same"),
        (lambda shapes: {k: v for k, v in shapes.items() if "stem/" not in k}, r"have a .*stem/.*the network has not"),
        (
            lambda shapes: shapes | {"params/stem/kernel": (3, 3, 3, 2)},
            r"stem/kernel \[7, 7, 3, 2\], where the network",
        ),
    ],
)
def test_weights_of_another_network_are_named(change: Any, message: str):
    weights = from_torch(read_weights(GOLDEN / FILES[0]), "file")
    with pytest.raises(InputError, match=message):
        fitted(weights, change({name: array.shape for name, array in weights.items()}), "file")
    broken = {**weights, "params/head/bias": np.full(5, np.nan, np.float32)}
    with pytest.raises(InputError, match=r"NaN or infinity in params/head/bias"):
        fitted(broken, {name: array.shape for name, array in weights.items()}, "file")


def test_names_of_other_networks_are_refused():
    with pytest.raises(InputError, match=r"have a 'features.0.weight', which no ResNet of torchvision"):
        from_torch({"features.0.weight": np.zeros((1, 1, 3, 3), np.float32)}, "file")
    with pytest.raises(InputError, match=r"have a 'layer1.0.se.fc1.weight'"):
        from_torch({"layer1.0.se.fc1.weight": np.zeros((1, 1), np.float32)}, "file")


class Runs:
    """Its pickle would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def archive(path: Path, tree: Any) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(tree, 2))
    return path


def test_code_in_a_file_does_not_run(tmp_path: Path):
    path = archive(tmp_path / "evil.pth", {"state_dict": {"fc.weight": Runs(tmp_path / "ran")}})
    with pytest.raises(InputError, match=r"hold the keys \['fc.weight'\]; expected a state dict"):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_weights_are_named(tmp_path: Path):
    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode()
    loop: list[Any] = []
    loop.append(loop)
    for path, message in [
        (tmp_path / "none.pth", "does not exist; expected a .safetensors or .pth file, or a run's folder"),
        (written("a.h5", b"x"), r"end in '.h5'; expected one of: .safetensors"),
        (written("b.pth", b"not a pickle"), r"cannot be read \("),
        (written("c.safetensors", struct.pack("<Q", len(header)) + header + b"0000"), "a does not fill its bytes"),
        (written("d.safetensors", struct.pack("<Q", 1 << 60)), "cannot be read"),
        (archive(tmp_path / "e.pth", Runs(tmp_path / "ran")), "hold a whole module; expected a state dict"),
        (archive(tmp_path / "g.pth", {"loop": loop}), r"hold the keys \['loop'\]"),
    ]:
        with pytest.raises(InputError, match=message):
            read_weights(path)
    whole = (GOLDEN / FILES[1]).read_bytes()
    for end in range(0, len(whole), 1009):
        with pytest.raises(InputError):
            read_weights(written("cut.pth", whole[:end]))


def test_damaged_files_are_refused_or_read_but_never_a_traceback(tmp_path: Path):
    generator = np.random.default_rng(0)
    for name in FILES:
        whole = np.frombuffer((GOLDEN / name).read_bytes(), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            places = generator.integers(0, min(len(whole), 6000), 3)
            damaged[places] = generator.integers(0, 256, 3)
            (tmp_path / name).write_bytes(damaged.tobytes())
            with contextlib.suppress(InputError):
                assert read_weights(tmp_path / name)


def test_torch_reads_the_same(tmp_path: Path):
    torch = pytest.importorskip("torch")
    halves = {"conv1.weight": torch.randn(4, 3, 7, 7).half(), "fc.bias": torch.arange(3.0).bfloat16()}
    views = {"fc.weight": torch.randn(6, 4).T[1:, ::2], "bn1.weight": torch.nn.Parameter(torch.randn(4))}
    torch.save({**halves, **views}, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    for name, tensor in (halves | views).items():
        np.testing.assert_array_equal(found[name], tensor.detach().float().numpy())


def test_the_commands_of_the_page_tune_and_evaluate(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(GOLDEN / FILES[0], "resnet18.pth")
    page = (GOLDEN.parents[1] / "docs" / "fine-tuning.md").read_text().replace("folder:pets", "fashion_mnist")
    tuning, judging = (command.split()[3:] for command in re.findall(r"^python -m .*", page, re.MULTILINE))
    small = ["model.name=resnet8", "model.width=2", "epochs=1", "tensorboard=False", "batch_size=64"]
    changes = [
        f"--config.{setting}"
        for setting in (
            *small,
            "data.validation_examples=70",
            "data.train_examples=128",
            "data.statistics=own",
            "data.policy=",
        )
    ]
    assert train([*tuning, *changes, f"--data_dir={data_dir}"]) == 0
    assert evaluate([*judging, f"--data_dir={data_dir}"]) == 0
    assert "fashion_mnist/test" in json.loads(Path("runs/tuned/evaluation.json").read_text())["results"]
