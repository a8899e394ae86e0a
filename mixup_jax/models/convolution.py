"""Convolutions, and on a CPU, in a process with one device, what makes them and their gradients faster than XLA's.

- What they read is made once.  XLA fuses what leads to it, a chain of normalisations, rectifiers and sums, into each of
  its transpositions for the gradient of a kernel, and so computes it again, slowly.
- Convolutions of grey or coloured images with small kernels are sums of shifted images, up to ten times as fast.
- 3x3 convolutions of many channels are products of matrices (`winograd`): XLA is slower there, and on maps smaller
  than the kernel a hundred times.
- The gradient of large images under a stride of 2 is four convolutions, one for each parity of their rows and columns.
  XLA puts zeros between the elements of the output's gradient, so that three of four multiplications are by them.

docs/benchmarks.md has what they bring.  Everywhere else the program is XLA's convolution and its gradient, unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixup_jax.models import winograd

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
CHANNELS = 128
"""With fewer, on either side, XLA is as fast as Winograd's filtering."""
MULTIPLICATIONS = 2**29
"""With fewer, XLA is fast enough, and filtering takes a second longer to compile."""
MULTIPLICATIONS_OF_TINY_MAPS = 2**25
"""The same for maps smaller than the kernel, where XLA takes 1 s for what filtering does in 10 ms."""
IMAGE_CHANNELS, TAPS = 3, 27
"""At most: with more channels, or places of the kernel times channels, a sum of shifted images is not faster."""
POSITIONS = 2**14
"""Of the output of a convolution of stride 2: with fewer, four convolutions take as long as XLA's one."""

Pads = tuple[tuple[int, int], tuple[int, int]]
Strides = tuple[int, int]


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **settings: Any,
) -> jax.Array:
    """Returns `jax.lax.conv_general_dilated` of the same arguments; differentiable in reverse mode alone.

    Images are `[B, H, W, C]` and kernels `[h, w, C, K]`.  Groups, dilations and low precision are always XLA's.

    Args:
      x: images.
      kernel: of the filters.
      strides: along H and W.
      padding: as there.
      **settings: as there.
    """
    # Over several devices a chunk would gather images from all of them.
    if jax.device_count() > 1 or not _plain(x, kernel, **settings):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)
    sides, size, (down, across) = x.shape[1:3], kernel.shape[:2], strides
    pads = jax.lax.padtype_to_pads(sides, size, strides, padding) if isinstance(padding, str) else padding
    (top, bottom), (left, right) = pads
    return convolve(x, kernel, (down, across), ((top, bottom), (left, right)))


def _plain(
    x: jax.Array,
    kernel: jax.Array,
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    feature_group_count: int,
    **_: Any,
) -> bool:
    precise = x.dtype == kernel.dtype and x.dtype in (jnp.float32, jnp.float64)
    return precise and {1} == {*lhs_dilation, *rhs_dilation, feature_group_count}


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the convolution of images `[B, H, W, C]` with a kernel `[h, w, C, K]`: by XLA except on a CPU.

    Args:
      x: images.
      kernel: of the filters.
      strides: along H and W.
      pads: before and after H, and W.
    """
    on_cpu, elsewhere = (partial(way, strides=strides, pads=pads) for way in (_forward_on_cpu, native))
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def native(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the convolution by XLA."""
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=DIMENSIONS)


def _convolve_forward(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> Any:
    return convolve(x, kernel, strides, pads), (x, kernel)


def _convolve_backward(strides: Strides, pads: Pads, given: Any, gradient: jax.Array) -> Any:
    on_cpu, elsewhere = (partial(way, strides=strides, pads=pads) for way in (_backward_on_cpu, _native_backward))
    return jax.lax.platform_dependent(*given, gradient, cpu=on_cpu, default=elsewhere)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _native_backward(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Strides, pads: Pads
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of the images and of the kernel by XLA."""
    return jax.vjp(partial(native, strides=strides, pads=pads), x, kernel)[1](gradient)


def _forward_on_cpu(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    made = jax.lax.optimization_barrier(x)
    if _many_channels(x, kernel, strides, pads):
        return winograd.convolution(made, kernel)
    if kernel.shape[2] <= IMAGE_CHANNELS and kernel[..., 0].size <= TAPS:
        return _sum_of_shifted(made, kernel, strides, pads)
    return native(made, kernel, strides, pads)


def _backward_on_cpu(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Strides, pads: Pads
) -> tuple[jax.Array, jax.Array]:
    x, gradient = jax.lax.optimization_barrier((x, gradient))
    if _many_channels(x, kernel, strides, pads):
        return winograd.image_gradient(gradient, kernel), winograd.kernel_gradient(x, gradient)
    of_images, of_kernel = _native_backward(x, kernel, gradient, strides, pads)
    if strides == (2, 2) and kernel.shape[:2] == (3, 3) and gradient.size // gradient.shape[-1] >= POSITIONS:
        of_images = _image_gradient_by_parity(x, kernel, gradient, pads)
    return of_images, of_kernel


def _many_channels(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> bool:
    """Returns whether Winograd's filtering is for such a convolution, and faster than XLA's."""
    fits = kernel.shape[:2] == (3, 3) and strides == (1, 1) and pads == ((1, 1), (1, 1))
    least = MULTIPLICATIONS if min(x.shape[1:3]) >= 3 else MULTIPLICATIONS_OF_TINY_MAPS
    return fits and min(kernel.shape[2:]) >= CHANNELS and x.size // x.shape[3] * kernel.size >= least


def _sum_of_shifted(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the convolution as a sum over the kernel's places and channels: one loop, which makes nothing else."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    ends = [side - size + 1 for side, size in zip(padded.shape[1:3], kernel.shape[:2], strict=True)]

    def of_tap(i: int, j: int, channel: int) -> jax.Array:
        rows, columns = slice(i, i + ends[0], strides[0]), slice(j, j + ends[1], strides[1])
        return padded[:, rows, columns, channel, None] * kernel[i, j, channel]

    return reduce(add, (of_tap(*place) for place in np.ndindex(kernel.shape[:3])))


def _image_gradient_by_parity(x: jax.Array, kernel: jax.Array, gradient: jax.Array, pads: Pads) -> jax.Array:
    """Returns the gradient of the images of a 3x3 convolution of stride 2.

    Row q of the padded images meets row i of the kernel for output (q - i) / 2, so that an even q meets rows 0 and 2,
    an odd one row 1; and so do columns.
    """
    channels = kernel.shape[2]
    halves = [-(-(side + before) // 2) for side, (before, _) in zip(x.shape[1:3], pads, strict=True)]

    def of_parity(a: int, b: int) -> jax.Array:
        taps = kernel[a::2, b::2][::-1, ::-1]
        around = [
            (taken - 1, half - outputs)
            for taken, half, outputs in zip(taps.shape[:2], halves, gradient.shape[1:3], strict=True)
        ]
        # The kernel's K are what is summed over.
        return jax.lax.conv_general_dilated(gradient, taps, (1, 1), around, dimension_numbers=("NHWC", "HWOI", "NHWC"))

    rows = [jnp.stack([of_parity(a, b) for b in (0, 1)], axis=3) for a in (0, 1)]
    padded = jnp.stack(rows, axis=2).reshape(x.shape[0], 2 * halves[0], 2 * halves[1], channels)
    (top, _), (left, _) = pads
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]
