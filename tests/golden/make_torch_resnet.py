"""Freezes a small ResNet of PyTorch, under torchvision's names, with its logits: torch_resnet.*.

    pip install torch safetensors
    python tests/golden/make_torch_resnet.py

It has three basic blocks and the stem of ImageNet's networks.  Nothing of mixup_jax is used here.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

WIDTH, CLASSES, SIDES = 2, 5, (33, 32)
HERE = Path(__file__).parent / "torch_resnet"


class Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.layer1 = nn.Sequential(Block(WIDTH, WIDTH, 1))
        self.layer2 = nn.Sequential(Block(WIDTH, 2 * WIDTH, 2))
        self.layer3 = nn.Sequential(Block(2 * WIDTH, 4 * WIDTH, 2))
        self.fc = nn.Linear(4 * WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean(dim=(2, 3)))


if __name__ == "__main__":
    torch.manual_seed(0)
    network = ResNet().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, -1.0, 1.0)  # a scale may be negative
            nn.init.normal_(module.bias, 0, 0.2)
    state = network.state_dict()
    torch.save(state, f"{HERE}.pth")
    torch.save(state, f"{HERE}_legacy.pth", _use_new_zipfile_serialization=False)
    wrapped, optimizer = nn.DataParallel(network).state_dict(), torch.optim.Adam(network.parameters())
    checkpoint = {"epoch": 3, "state_dict": wrapped, "optimizer": optimizer}
    torch.save(checkpoint, f"{HERE}_checkpoint.pth")
    save_file(state, f"{HERE}.safetensors")
    images = [torch.randn(2, 3, side, side) for side in SIDES]
    with torch.no_grad():
        logits = [network(image).numpy() for image in images]
    arrays = {f"images_{side}": image.permute(0, 2, 3, 1).numpy() for side, image in zip(SIDES, images, strict=True)}
    np.savez_compressed(f"{HERE}.npz", **arrays, **{f"logits_{s}": y for s, y in zip(SIDES, logits, strict=True)})
