"""The same experiment as a program of its own, in PyTorch: ResNet-8 of width 16, 5,000 images, 30 epochs.

    python studies/independent.py --seed=0 --alpha=0.2 --output=runs/independent/torch-0     # needs torch and numpy
    python -m mixup_jax.sweep --grid=configs/grids/independent.py --output=runs/independent   # the package's side

Question    Mixup (alpha 0.2) had accuracies of .874 and .880 here and .885 and .882 in another PyTorch program, while
            ERM (.867, .871; .867, .873) and calibration agreed.  Chance, or a difference of the programs?
Design      Seeds 0 to 4 of ERM and mixup on both sides, the very same training, held-out and test images.
            First the sides as they are: Welch's t interval of the difference in mean accuracy of mixup, and in the gain
            by mixup.  If the first excludes 0, or is wider than +-0.005, seeds 5 to 9 are added; nothing is tuned.  If
            it then excludes 0, one of the switches below is turned at a time, on this side, five seeds each: the one
            that brings the difference to within its interval explains it, and ours is changed if it departs from what
            it claims to be.
Switches    --init      ours: He normal, fan-out; head N(0, 1/D), bias 0.  torch: that framework's defaults.
            --padding   ours: XLA's SAME, which for stride 2 pads below and to the right.  torch: one pixel all around.
            --last      ours: the incomplete last batch of an epoch is left out.  torch: it is trained on.
            The other PyTorch program is taken to have had torch's side of all three.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WIDTH, CLASSES = 16, 10
EXAMPLES, HELD_OUT = 5000, 2000
EPOCHS, BATCH = 30, 128
RATE, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
MEAN, STD = 0.28604060, 0.35302424


class Conv(nn.Conv2d):
    """A convolution without bias, padded as one of the two sides does it."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, padding: str) -> None:
        super().__init__(inputs, outputs, size, stride, bias=False)
        self.before, self.after = (size // 2, size // 2) if padding == "torch" or stride == 1 else (0, size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the convolution of `[B, C, H, W]`."""
        return super().forward(functional.pad(x, (self.before, self.after, self.before, self.after)))


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, as He et al. (2016) have them."""

    def __init__(self, inputs: int, outputs: int, stride: int, padding: str) -> None:
        super().__init__()
        self.conv_1, self.norm_1 = Conv(inputs, outputs, 3, stride, padding), nn.BatchNorm2d(outputs)
        self.conv_2, self.norm_2 = Conv(outputs, outputs, 3, 1, padding), nn.BatchNorm2d(outputs)
        self.conv_shortcut = Conv(inputs, outputs, 1, stride, padding) if stride > 1 else None
        self.norm_shortcut = nn.BatchNorm2d(outputs) if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's output."""
        y = self.norm_2(self.conv_2(functional.relu(self.norm_1(self.conv_1(x)))))
        if self.conv_shortcut is not None and self.norm_shortcut is not None:
            x = self.norm_shortcut(self.conv_shortcut(x))
        return functional.relu(x + y)


class ResNet8(nn.Module):
    """A stem and three blocks, then global average pooling and one linear layer."""

    def __init__(self, padding: str = "torch", init: str = "torch") -> None:
        super().__init__()
        self.stem, self.norm_stem = Conv(1, WIDTH, 3, 1, padding), nn.BatchNorm2d(WIDTH)
        self.blocks = nn.ModuleList(
            [Block(WIDTH * max(1, 2 ** (i - 1)), WIDTH * 2**i, 1 if i == 0 else 2, padding) for i in range(3)]
        )
        self.head = nn.Linear(4 * WIDTH, CLASSES)
        if init == "ours":
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            std = 1 / math.sqrt(4 * WIDTH) / 0.87962566  # that of a normal cut off at 2 is so much smaller
            nn.init.trunc_normal_(self.head.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, K]` of standardised images `[B, 1, 28, 28]`."""
        x = functional.relu(self.norm_stem(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=(2, 3)))


def held_out_split(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training and the held-out indices of the package's split with seed 0 (`mixup_jax.data.sets`)."""
    order = np.argsort(np.random.PCG64(0).random_raw(n), kind="stable")
    return order[HELD_OUT : HELD_OUT + EXAMPLES], order[:HELD_OUT]


def standardised(images: np.ndarray) -> torch.Tensor:
    """Returns (x / 255 - mean) / std, `[N, 1, 28, 28]`."""
    return torch.from_numpy((images[..., 0].astype(np.float32) / 255 - MEAN) / STD)[:, None]


def train(images: torch.Tensor, labels: torch.Tensor, options: argparse.Namespace) -> ResNet8:
    """Returns the network after all epochs."""
    torch.manual_seed(options.seed)
    generator = np.random.default_rng([options.seed, 1])
    network = ResNet8(options.padding, options.init)
    optimizer = torch.optim.SGD(network.parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=True)
    steps = math.ceil(len(images) / BATCH) if options.last == "torch" else len(images) // BATCH
    total, step = options.epochs * steps, 0
    for _ in range(options.epochs):
        order = torch.from_numpy(generator.permutation(len(images)))
        for rows in (order[i * BATCH : (i + 1) * BATCH] for i in range(steps)):
            optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / total)) / 2
            x, y = images[rows], functional.one_hot(labels[rows], CLASSES).float()
            if options.alpha > 0:
                lam, partner = float(generator.beta(options.alpha, options.alpha)), generator.permutation(len(rows))
                x, y = lam * x + (1 - lam) * x[partner], lam * y + (1 - lam) * y[partner]
            loss = -(y * functional.log_softmax(network(x), dim=1)).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return network


@torch.no_grad()
def logits_of(network: ResNet8, images: torch.Tensor) -> np.ndarray:
    """Returns the logits of images by the running statistics, float32 `[N, K]`."""
    network.eval()
    return torch.cat([network(part) for part in images.split(500)]).numpy()


def main() -> None:
    """Trains one network and writes test.npz and validation.npz, which `python -m mixup_jax.evaluate` judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alpha", type=float, default=0.0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    for switch in ("init", "padding", "last"):
        parser.add_argument(f"--{switch}", choices=("ours", "torch"), default="torch")
    parser.add_argument("--data", type=Path, default=Path.home() / "tensorflow_datasets" / "arrays" / "fashion_mnist")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    arrays = {name: np.load(options.data / f"{name}.npy") for name in ("train-images", "train-labels")}
    arrays |= {name: np.load(options.data / f"{name}.npy") for name in ("test-images", "test-labels")}
    kept, held_out = held_out_split(len(arrays["train-labels"]))
    images, labels = standardised(arrays["train-images"]), arrays["train-labels"]
    network = train(images[kept], torch.from_numpy(labels[kept]).long(), options)
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(options).items() if key not in ("data", "output")}
    for split, inputs, truth in (
        ("test", standardised(arrays["test-images"]), arrays["test-labels"]),
        ("validation", images[held_out], labels[held_out]),
    ):
        logits = logits_of(network, inputs)
        meta = json.dumps({"dataset": "fashion_mnist", "split": split, "torch": torch.__version__, **settings})
        np.savez_compressed(options.output / f"{split}.npz", logits=logits, labels=truth, meta=np.array(meta))
        print(f"{split}: accuracy {np.mean(logits.argmax(axis=1) == truth):.4f}")


if __name__ == "__main__":
    main()
