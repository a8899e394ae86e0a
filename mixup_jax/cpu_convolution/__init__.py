"""Convolutions for a CPU: `conv_general_dilated` computes what `jax.lax`'s does, in some cases faster.

It calls kernels that numba compiles for the processor if the process has one device, a CPU; if images and kernel are
float32, without groups or dilation; and if there is enough to compute and the channels fill vector registers.  In all
other cases it calls XLA's convolution.  docs/benchmarks.md has the speed on several processors.

The kernels never stop a run.  XLA's convolution is used if they are switched off (`model.cpu_convolution` of the
config, or MIXUP_JAX_CPU_CONVOLUTION=0), if the installed jaxlib does not fit them, or if a first comparison with XLA's
result fails.

  __init__      the one public function: which convolutions the kernels compute, and their gradients
  availability  whether the kernels may be used: switch, processor, XLA's interface, first comparison
  kernels       the kernels as functions of jax arrays
  threads       the function that XLA calls, and how XLA's threads share its work
  xla_calls     reading a call's arguments, results and attributes
  xla_layout    where XLA's structures have them, and whether the installed version agrees
  direct        convolutions of any size and stride, and their gradients, as products of matrices
  winograd      3x3 convolutions of stride 1 by Winograd's minimal filtering
  products      products of matrices whose sums stay in registers
  vectors       loads, stores, copies and small transformations as LLVM instructions
  compiling     the processor's registers; compiling a function once and keeping it

numba is imported only before a convolution uses the kernels.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mixup_jax.cpu_convolution.availability import lanes

__all__ = ["CALLED_AS", "conv_general_dilated"]

CALLED_AS = "mixup_jax.convolution"
"""The prefix of the names by which compiled programs call the kernels."""

_Strides = tuple[int, int]
_Pads = tuple[tuple[int, int], tuple[int, int]]
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_MULTIPLICATIONS = 2**22
"""The least multiplications for a kernel: with fewer, XLA is as fast, and compiling kernels would not pay."""


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **settings: Any,
) -> jax.Array:
    """Returns `jax.lax.conv_general_dilated` of images `[B, H, W, C]` and a kernel `[h, w, C, K]`.

    It is differentiable in reverse mode only.
    """
    sides, size, (down, across) = x.shape[1:3], kernel.shape[:2], strides
    pads = jax.lax.padtype_to_pads(sides, size, strides, padding) if isinstance(padding, str) else padding
    # XLA cannot divide a kernel's work among devices, and a machine with an accelerator needs no kernels.
    alone = jax.device_count() == 1 and jax.default_backend() == "cpu"
    if not alone or not _plain(x, kernel, pads, **settings):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)
    (top, bottom), (left, right) = pads
    return _convolve(x, kernel, (down, across), ((top, bottom), (left, right)))


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
    """Returns whether a convolution is float32, without groups, dilation or negative padding."""
    single = x.dtype == kernel.dtype == jnp.float32
    padded = min(min(pad) for pad in pads) >= 0
    return single and padded and {1} == {*lhs_dilation, *rhs_dilation, feature_group_count}


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, strides: _Strides, pads: _Pads) -> jax.Array:
    """Returns the convolution, by XLA except on a CPU; `pads` are the zeros before and after H, and those of W."""
    on_cpu, elsewhere = (partial(way, strides=strides, pads=pads) for way in (_forward_on_cpu, _native))
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _native(x: jax.Array, kernel: jax.Array, strides: _Strides, pads: _Pads) -> jax.Array:
    """Returns the convolution by XLA."""
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_DIMENSIONS)


def _convolve_backward(strides: _Strides, pads: _Pads, given: Any, gradient: jax.Array) -> Any:
    on_cpu, elsewhere = (partial(way, strides=strides, pads=pads) for way in (_backward_on_cpu, _native_backward))
    return jax.lax.platform_dependent(*given, gradient, cpu=on_cpu, default=elsewhere)


_convolve.defvjp(lambda x, kernel, *geometry: (_convolve(x, kernel, *geometry), (x, kernel)), _convolve_backward)


def _native_backward(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: _Strides, pads: _Pads
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of the images and of the kernel by XLA."""
    return jax.vjp(partial(_native, strides=strides, pads=pads), x, kernel)[1](gradient)


def _forward_on_cpu(x: jax.Array, kernel: jax.Array, strides: _Strides, pads: _Pads) -> jax.Array:
    if not _pays(x, kernel, strides, pads) or not _divided(kernel.shape[3]):
        return _native(x, kernel, strides, pads)
    from mixup_jax.cpu_convolution import kernels

    if _filtered(kernel, strides, pads):
        return kernels.winograd_convolution(x, kernel)
    return kernels.convolution(x, kernel, _outputs(x, kernel, strides, pads), strides, pads)


def _backward_on_cpu(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: _Strides, pads: _Pads
) -> tuple[jax.Array, jax.Array]:
    if not _pays(x, kernel, strides, pads):
        return _native_backward(x, kernel, gradient, strides, pads)
    from mixup_jax.cpu_convolution import kernels

    if _filtered(kernel, strides, pads):
        turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
        return kernels.winograd_convolution(gradient, turned), kernels.winograd_kernel_gradient(x, gradient)
    of_images, of_kernel = _native_backward(x, kernel, gradient, strides, pads)
    if _divided(kernel.shape[2]):
        of_images = kernels.image_gradient(gradient, kernel, x.shape[1:3], strides, pads)
    if _divided(kernel.shape[3]):
        of_kernel = kernels.kernel_gradient(x, gradient, kernel.shape[:2], strides, pads)
    return of_images, of_kernel


def _pays(x: jax.Array, kernel: jax.Array, strides: _Strides, pads: _Pads) -> bool:
    """Returns whether there is enough to compute for a kernel, and a kernel for it."""
    multiplications = x.shape[0] * math.prod(_outputs(x, kernel, strides, pads)) * kernel.size
    return multiplications >= _MULTIPLICATIONS and lanes() > 0


def _outputs(x: jax.Array, kernel: jax.Array, strides: _Strides, pads: _Pads) -> tuple[int, ...]:
    """Returns the height and width of the result; 0 where the filter is larger than a side."""
    sides = zip(x.shape[1:3], pads, kernel.shape[:2], strides, strict=True)
    return tuple(max(0, (side + sum(pad) - taps) // stride + 1) for side, pad, taps, stride in sides)


def _divided(channels: int) -> bool:
    return channels % lanes() == 0


def _filtered(kernel: jax.Array, strides: _Strides, pads: _Pads) -> bool:
    """Returns whether Winograd's filtering can compute this convolution."""
    fits = kernel.shape[:2] == (3, 3) and strides == (1, 1) and pads == ((1, 1), (1, 1))
    return fits and _divided(kernel.shape[2]) and _divided(kernel.shape[3])
