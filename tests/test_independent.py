"""The program in PyTorch is the package's network and split, where it is told to be."""

from pathlib import Path

import jax
import numpy as np
import pytest

from mixup_jax.config import ModelConfig
from mixup_jax.data.sets import train_validation_split
from mixup_jax.models import model_of

torch = pytest.importorskip("torch")

independent = pytest.importorskip("studies.independent")


def test_with_our_padding_it_is_our_network():
    model = model_of(ModelConfig(name="resnet8", width=16), classes=10)
    x = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32)
    variables = model.init(jax.random.key(0), x, train=False)
    network = independent.ResNet8("ours", "ours").eval()
    copied(variables["params"], network)
    expected = np.asarray(model.apply(variables, x, train=False))
    inputs = torch.from_numpy(x).permute(0, 3, 1, 2)
    np.testing.assert_allclose(independent.logits_of(network, inputs), expected, atol=1e-4)
    other = independent.ResNet8("torch", "ours").eval()
    copied(variables["params"], other)
    assert np.abs(independent.logits_of(other, inputs) - expected).max() > 1e-3


def copied(params, network):
    """Copies the package's convolutions and last layer into a network of PyTorch; normalisations start alike."""
    places = {"stem": network.stem}
    for number, block in enumerate(network.blocks, start=1):
        for name in ("conv_1", "conv_2", "conv_shortcut"):
            if getattr(block, name) is not None:
                places[f"stage_{number}_block_1/{name}"] = getattr(block, name)
    with torch.no_grad():
        for path, layer in places.items():
            kernel = params
            for part in path.split("/"):
                kernel = kernel[part]
            layer.weight.copy_(torch.from_numpy(np.array(kernel["kernel"]).transpose(3, 2, 0, 1)))
        network.head.weight.copy_(torch.from_numpy(np.array(params["head"]["kernel"]).T))
        network.head.bias.copy_(torch.from_numpy(np.array(params["head"]["bias"])))


def test_its_initialisation_is_drawn_from_our_law():
    model = model_of(ModelConfig(name="resnet8", width=16), classes=10)
    params = model.init(jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32), train=False)["params"]
    network = independent.ResNet8("torch", "ours")
    for ours, theirs in (
        (params["stage_3_block_1"]["conv_2"]["kernel"], network.blocks[2].conv_2.weight),
        (params["stage_2_block_1"]["conv_shortcut"]["kernel"], network.blocks[1].conv_shortcut.weight),
        (params["head"]["kernel"], network.head.weight),
    ):
        assert float(theirs.detach().std()) == pytest.approx(float(np.std(ours)), rel=0.12)


def test_its_split_is_ours():
    train, held_out = independent.held_out_split(60_000)
    ours = train_validation_split(60_000, train_examples=5000, validation_examples=2000, seed=0)
    np.testing.assert_array_equal(train, ours[0])
    np.testing.assert_array_equal(held_out, ours[1])


def test_it_trains_and_writes_records_of_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(0)
    for split, n in (("train", 7200), ("test", 40)):
        np.save(tmp_path / f"{split}-images.npy", generator.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8))
        np.save(tmp_path / f"{split}-labels.npy", generator.integers(0, 10, n, dtype=np.int32))
    flags = ["--alpha=0.2", "--epochs=1", f"--data={tmp_path}", f"--output={tmp_path / 'out'}"]
    monkeypatch.setattr("sys.argv", ["independent.py", *flags])
    monkeypatch.setattr(independent, "EXAMPLES", 300)
    independent.main()
    with np.load(tmp_path / "out" / "test.npz") as record:
        assert record["logits"].shape == (40, 10)
        assert np.isfinite(record["logits"]).all()
