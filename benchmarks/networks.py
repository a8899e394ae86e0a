"""The same networks for both sides, in the compared sizes: ours by config, theirs as modules of PyTorch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig
from mixup_jax.data.catalog import DatasetSpec, training_spec
from mixup_jax.data.text import Vocabulary
from mixup_jax.methods.method import Method

BATCH = 128
EXAMPLES = 1024
VOCABULARY, TOKENS, EMBEDDING = 20_000, 64, 50


@dataclass(frozen=True)
class Case:
    """A network and its data: a name of the catalogue, of which only shapes and constants are used."""

    label: str
    model: ModelConfig
    data: str
    batch: int = BATCH

    @property
    def spec(self) -> DatasetSpec:
        """Shapes and constants of the data."""
        return training_spec(self.data)

    @property
    def is_text(self) -> bool:
        """Whether it takes tokens."""
        return self.spec.task == "text"

    @property
    def config(self) -> Config:
        """Mixup and SGD with momentum, without augmentation."""
        crop = "random_resized" if self.spec.streams else "pad"
        data = DataConfig(
            name=self.data, crop=crop, crop_padding=0, flip=False, max_tokens=TOKENS, vector_size=EMBEDDING
        )
        optimizer = OptimizerConfig(learning_rate=0.01, momentum=0.9, nesterov=False)
        method = Method(mixup_alpha=0.2)
        return Config(batch_size=self.batch, data=data, model=self.model, method=method, optimizer=optimizer)

    def examples(self, count: int = EXAMPLES) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """Returns random inputs (uint8 images or int32 tokens) and labels."""
        rng = np.random.default_rng(0)
        labels = rng.integers(0, self.spec.classes, count, dtype=np.int32)
        if self.is_text:
            return rng.integers(1, VOCABULARY, (count, TOKENS), dtype=np.int32), labels
        return rng.integers(0, 256, (count, *self.spec.shape), dtype=np.uint8), labels

    def vocabulary(self) -> Vocabulary | None:
        """Returns words for as many tokens as the examples may have; None for images."""
        return Vocabulary(tuple(map(str, range(VOCABULARY)))) if self.is_text else None


CASES = (
    Case("ResNet-18, width 16, 28x28x1", ModelConfig(name="resnet18", width=16), "fashion_mnist"),
    Case("ResNet-18, width 64, 28x28x1", ModelConfig(name="resnet18", width=64), "fashion_mnist"),
    Case("VGG-16, 32x32x3", ModelConfig(name="vgg16", width=64), "cifar10"),
    Case("sentence CNN, 64 tokens", ModelConfig(name="text_cnn", width=100), "mr"),
)


def torch_network(case: Case) -> Any:
    """Returns the network of a case as a torch module that takes what `torch_inputs` returns."""
    import torch
    from torch import nn

    def norm(channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels)

    class Block(nn.Module):
        def __init__(self, inputs: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm1, self.norm2 = norm(channels), norm(channels)
            self.shortcut = nn.Identity()
            if stride != 1 or inputs != channels:
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, channels, 1, stride, bias=False), norm(channels))

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.norm1(self.conv1(x)))
            return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))

    class Preactivation(nn.Module):
        def __init__(self, inputs: int, channels: int, stride: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = norm(inputs), norm(channels)
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False) if inputs != channels else None

        def forward(self, x: Any) -> Any:
            active = torch.relu(self.norm1(x))
            y = self.conv2(torch.relu(self.norm2(self.conv1(active))))
            return y + (x if self.shortcut is None else self.shortcut(active))

    class TextCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, EMBEDDING, padding_idx=0)
            sizes = case.model.filter_widths
            self.convs = nn.ModuleList([nn.Conv1d(EMBEDDING, case.model.width, s, padding=s - 1) for s in sizes])
            self.head = nn.Linear(len(sizes) * case.model.width, case.spec.classes)

        def forward(self, embedded: Any) -> Any:
            x = embedded.transpose(1, 2)
            return self.head(torch.cat([torch.relu(conv(x)).amax(2) for conv in self.convs], 1))

    def head(channels: int) -> list[nn.Module]:
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, case.spec.classes)]

    def resnet() -> nn.Module:
        width = case.model.width
        layers: list[nn.Module] = [
            nn.Conv2d(case.spec.shape[2], width, 3, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
        ]
        for stage in range(4):
            inputs, channels = width * 2 ** max(stage - 1, 0), width * 2**stage
            layers += [Block(inputs, channels, 1 if stage == 0 else 2), Block(channels, channels, 1)]
        return nn.Sequential(*layers, *head(8 * width))

    def vgg() -> nn.Module:
        layers: list[nn.Module] = []
        inputs = case.spec.shape[2]
        for block, count in enumerate((2, 2, 3, 3, 3)):
            channels = case.model.width * min(2**block, 8)
            for _ in range(count):
                layers += [nn.Conv2d(inputs, channels, 3, padding=1), norm(channels), nn.ReLU()]
                inputs = channels
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        return nn.Sequential(*layers, *head(inputs))

    def wide_resnet() -> nn.Module:
        inputs, layers = 16, [nn.Conv2d(case.spec.shape[2], 16, 3, padding=1, bias=False)]
        for stage in range(3):
            channels = case.model.width * 2**stage
            for block in range(4):
                layers.append(Preactivation(inputs, channels, 2 if stage and not block else 1))
                inputs = channels
        return nn.Sequential(*layers, norm(inputs), nn.ReLU(), *head(inputs))

    def resnet50() -> nn.Module:
        import torchvision

        return torchvision.models.resnet50(num_classes=case.spec.classes)

    if case.is_text:
        return TextCNN()
    made = {"resnet18": resnet, "vgg16": vgg, "wrn28": wide_resnet, "resnet50": resnet50}
    network = made[case.model.name]()
    return network.to(memory_format=torch.channels_last)


def torch_inputs(case: Case, network: Any, raw: Any) -> Any:
    """Returns the network's inputs from uint8 images `[B, H, W, C]` (standardised) or from tokens (embedded)."""
    import torch

    if case.is_text:
        return network.embedding(raw)
    mean, std = (torch.tensor(values, device=raw.device) for values in (case.spec.mean, case.spec.std))
    # A view of channels-last memory: nothing is moved.
    return ((raw.float() / 255 - mean) / std).permute(0, 3, 1, 2)
