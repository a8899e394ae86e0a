"""Convolutions, and on a CPU, in a process with one device, kernels of our own for them and their gradients.

Everywhere else, and where the kernels are not made for it, the program is XLA's convolution and its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mixup_jax import cpu_convolution as kernels
from mixup_jax.cpu_convolution import Pads, Strides

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
MULTIPLICATIONS = 2**22
"""With fewer, XLA is as fast, and starting threads and compiling the kernels costs more than they bring."""


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **settings: Any,
) -> jax.Array:
    """Returns `jax.lax.conv_general_dilated` of the same arguments; differentiable in reverse mode alone.

    Images are `[B, H, W, C]` and kernels `[h, w, C, K]`.  Groups, dilations and other precisions are always XLA's.

    Args:
      x: images.
      kernel: of the filters.
      strides: along H and W.
      padding: as there.
      **settings: as there.
    """
    sides, size, (down, across) = x.shape[1:3], kernel.shape[:2], strides
    pads = jax.lax.padtype_to_pads(sides, size, strides, padding) if isinstance(padding, str) else padding
    # XLA cannot divide the work of a kernel among devices.  On an accelerator's host none has to be compiled.
    alone = jax.device_count() == 1 and jax.default_backend() == "cpu"
    if not alone or not _plain(x, kernel, pads, **settings):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)
    (top, bottom), (left, right) = pads
    return convolve(x, kernel, (down, across), ((top, bottom), (left, right)))


def _plain(
    x: jax.Array,
    kernel: jax.Array,
    pads: Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    feature_group_count: int,
    **_: Any,
) -> bool:
    single = x.dtype == kernel.dtype == jnp.float32
    padded = min(min(pad) for pad in pads) >= 0
    return single and padded and {1} == {*lhs_dilation, *rhs_dilation, feature_group_count}


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    """Returns the convolution of float32 images `[B, H, W, C]` with a kernel `[h, w, C, K]`: by XLA except on a CPU.

    Args:
      x: images.
      kernel: of the filters.
      strides: along H and W.
      pads: before and after H, and W; not negative.
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
    if not _large(x, kernel, strides, pads) or not _divided(kernel.shape[3]):
        return native(x, kernel, strides, pads)
    if _filtered(kernel, strides, pads):
        return kernels.winograd_convolution(x, kernel)
    return kernels.convolution(x, kernel, strides, pads)


def _backward_on_cpu(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Strides, pads: Pads
) -> tuple[jax.Array, jax.Array]:
    large = _large(x, kernel, strides, pads)
    if large and _filtered(kernel, strides, pads):
        turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
        return kernels.winograd_convolution(gradient, turned), kernels.winograd_kernel_gradient(x, gradient)
    of_images, of_kernel = _native_backward(x, kernel, gradient, strides, pads)
    if not large:
        return of_images, of_kernel
    if _divided(kernel.shape[2]):
        of_images = kernels.image_gradient(gradient, kernel, x.shape[1:3], strides, pads)
    if _divided(kernel.shape[3]):
        of_kernel = kernels.kernel_gradient(x, gradient, kernel.shape[:2], strides, pads)
    return of_images, of_kernel


def _large(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> bool:
    multiplications = x.shape[0] * math.prod(kernels.outputs(x, kernel.shape[:2], strides, pads)) * kernel.size
    return multiplications >= MULTIPLICATIONS and kernels.lanes() > 0


def _divided(channels: int) -> bool:
    return channels % kernels.lanes() == 0


def _filtered(kernel: jax.Array, strides: Strides, pads: Pads) -> bool:
    """Returns whether Winograd's filtering is for such a convolution."""
    fits = kernel.shape[:2] == (3, 3) and strides == (1, 1) and pads == ((1, 1), (1, 1))
    return fits and _divided(kernel.shape[2]) and _divided(kernel.shape[3])
