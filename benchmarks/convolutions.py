"""Our convolutions against XLA's and PyTorch's on the CPU: forward, and the gradients of images and kernel.

    pip install torch
    python benchmarks/convolutions.py [--write]

Batches of 128 in float32, channels last, padded by half of the kernel.  The sides run in
separate processes and take turns.  A ratio above 1 means that we are faster.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from side_by_side import Run, Side, compare, medians, parser

BATCH = 128
HEADER = ("convolution", "", "ours ms", "XLA ms", "PyTorch ms", "XLA / ours", "PyTorch / ours")


@dataclass(frozen=True)
class Case:
    """A convolution of square images with square filters."""

    side: int
    channels: int
    maps: int
    size: int = 3
    stride: int = 1

    @property
    def label(self) -> str:
        """Its name in the table."""
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.size}x{self.size}{stride}, {self.channels} to {self.maps} channels, {self.side}x{self.side}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns images, kernel and the gradient of the output."""
        generator = np.random.default_rng(0)
        outputs = -(-self.side // self.stride)
        shapes = (
            (BATCH, self.side, self.side, self.channels),
            (self.size, self.size, self.channels, self.maps),
            (BATCH, outputs, outputs, self.maps),
        )
        x, kernel, gradient = (generator.standard_normal(shape, np.float32) for shape in shapes)
        return x, kernel, gradient


CASES = (
    Case(28, 1, 16),
    Case(28, 16, 16),
    Case(14, 32, 32),
    Case(28, 64, 64),
    Case(28, 64, 128, stride=2),
    Case(28, 64, 128, size=1, stride=2),
    Case(14, 128, 128),
    Case(7, 256, 256),
    Case(4, 512, 512),
)


def in_jax(case: Case, name: str, backward: bool) -> Run:
    """Computes by the project's convolution, "_convolve", or by XLA's, "_native"."""
    from mixup_jax.libraries import keep_freed_memory

    keep_freed_memory()
    import jax

    from mixup_jax import cpu_convolution
    from mixup_jax.libraries import fast_to_run

    pad = (case.size // 2, case.size // 2)
    settings = ((case.stride, case.stride), (pad, pad))

    def forward(x: Any, kernel: Any, _: Any) -> Any:
        return getattr(cpu_convolution, name)(x, kernel, *settings)

    def gradients(x: Any, kernel: Any, gradient: Any) -> Any:
        # Training does not need the gradient of pixels.
        _, pull = jax.vjp(lambda x, kernel: forward(x, kernel, None), x, kernel)
        return pull(gradient)[1 if case.channels < 16 else slice(None)]

    work = jax.jit(gradients if backward else forward, compiler_options=fast_to_run("cpu"))
    arrays = [jax.numpy.asarray(array) for array in case.arrays()]

    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(work(*arrays))

    run(2)
    return run


def in_torch(case: Case, backward: bool) -> Run:
    """Computes by PyTorch, which calls oneDNN."""
    import torch

    x, kernel, gradient = (torch.from_numpy(array) for array in case.arrays())
    x, gradient = x.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    geometry = [(case.stride, case.stride), (case.size // 2, case.size // 2), (1, 1)]
    wanted = [case.channels >= 16, True, False]

    def run(count: int) -> None:
        for _ in range(count):
            if backward:
                torch.ops.aten.convolution_backward(gradient, x, kernel, None, *geometry, False, [0, 0], 1, wanted)
            else:
                torch.nn.functional.conv2d(x, kernel, None, *geometry)

    run(2)
    return run


def rows_of(case: Case, rounds: int) -> list[list[str]]:
    rows = []
    for backward in (False, True):
        with (
            Side(in_jax, case, "_convolve", backward) as ours,
            Side(in_jax, case, "_native", backward) as xla,
            Side(in_torch, case, backward) as torch,
        ):
            times = medians([ours, xla, torch], rounds=rounds, seconds_a_turn=0.3, lead=2)
        ratios = [f"{seconds / times[0]:.2f}" for seconds in times[1:]]
        label, name = (case.label, "forward") if not backward else ("", "gradients")
        rows.append([label, name, *(f"{seconds * 1e3:.2f}" for seconds in times), *ratios])
    return rows


def main() -> None:
    arguments = parser(__doc__, rounds=5, only="convolutions").parse_args()
    compare(
        *("convolutions", HEADER, CASES, partial(rows_of, rounds=arguments.rounds), arguments),
        ("jax", "numba", "torch"),
    )


if __name__ == "__main__":
    main()
