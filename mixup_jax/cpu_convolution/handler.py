"""What XLA calls for each of the kernels, and how its threads divide the work."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mixup_jax.cpu_convolution import direct, winograd
from mixup_jax.cpu_convolution.calls import API, CONTEXT, KIND, attribute, described, scratch_space, side, words
from mixup_jax.cpu_convolution.instructions import INDEX
from mixup_jax.cpu_convolution.symbols import kept, symbol

WINOGRAD_CONVOLUTION, WINOGRAD_KERNEL_GRADIENT, CONVOLUTION, KERNEL_GRADIENT, IMAGE_GRADIENT = range(5)
_TRANSFORM_KERNEL = 5

_transform_kernel, _filter, _add_filtered = winograd.transform_kernel, winograd.convolve, winograd.add_products
_convolve, _add_products, _scatter = direct.convolve, direct.add_products, direct.scatter

# What the threads share: the frame, what there is to do and in how many parts, how many of these have been begun and
# done, and how many threads may still look.
_FRAME, _TASK, _PARTS, _BEGUN, _DONE, _USERS = range(6)
_SCHEDULE, _THREADS = 17, 18
"""Words of XLA_FFI_Api."""

_malloc = types.ExternalFunction("malloc", types.int64(types.int64))
_free = types.ExternalFunction("free", types.void(types.int64))
_yield = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _add(typing: Any, address: Any, place: Any, value: Any) -> Any:
    """Adds to a word, undisturbed by other threads, and returns what it was."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        address, place, value = given
        word = builder.gep(builder.inttoptr(address, INDEX.as_pointer()), [place])
        return builder.atomic_rmw("add", word, value, "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def _call(typing: Any, function: Any, argument: Any) -> Any:
    """Calls a function of C, given its address, that takes and returns an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(INDEX, [INDEX]).as_pointer()
        return builder.call(builder.inttoptr(given[0], kind), [given[1]])

    return types.int64(types.int64, types.int64), generate


@symbol(types.void(types.int64))
def _work(state: int) -> None:
    """Does parts until all have been begun."""
    shared = words(state)
    frame, task, parts = shared[_FRAME], shared[_TASK], shared[_PARTS]
    part = _add(state, _BEGUN, 1)
    while part < parts:
        if task == _TRANSFORM_KERNEL:
            _transform_kernel(frame, part, parts)
        elif task == WINOGRAD_CONVOLUTION:
            _filter(frame, part, parts)
        elif task == WINOGRAD_KERNEL_GRADIENT:
            _add_filtered(frame, part, parts)
        elif task == CONVOLUTION:
            _convolve(frame, part, parts)
        elif task == KERNEL_GRADIENT:
            _add_products(frame, part, parts)
        else:
            _scatter(frame, part, parts)
        _add(state, _DONE, 1)
        part = _add(state, _BEGUN, 1)
    # The last one frees what they share.
    if _add(state, _USERS, -1) == 1:
        _free(state)


@intrinsic
def _work_address(typing: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [INDEX])
        return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, kind, _work.symbol), INDEX)

    return types.int64(), generate


@symbol(types.void(types.int64, types.int64, types.int64))
def _do(frame: int, task: int, parts: int) -> None:
    """Has XLA's threads do the parts of a task, this one among them, and returns when all are done.

    This thread does what no other one has begun, so that it need not wait for threads that are busy.
    """
    api, context = words(words(frame)[API]), words(frame)[CONTEXT]
    request = _malloc(8 * 5)
    asked = words(request)
    asked[0], asked[1], asked[2], asked[3], asked[4] = 8 * 4, 0, context, request + 8 * 4, 1
    _call(api[_THREADS], request)
    helpers = min(asked[4], parts) - 1
    state = _malloc(8 * 6)
    shared = words(state)
    shared[_FRAME], shared[_TASK], shared[_PARTS], shared[_BEGUN], shared[_DONE] = frame, task, parts, 0, 0
    shared[_USERS] = 2 + helpers
    asked[0], asked[3], asked[4] = 8 * 5, _work_address(), state
    for _ in range(helpers):
        if _call(api[_SCHEDULE], request) != 0:
            _add(state, _USERS, -1)
    _free(request)
    _work(state)
    while _add(state, _DONE, 0) < parts:
        _yield()
    if _add(state, _USERS, -1) == 1:
        _free(state)


@kept(types.int64(types.int64))
def handler(frame: int) -> int:
    """Does what the attribute `kind` says, in as many parts as there is scratch space for."""
    if described(frame):
        return 0
    kind = attribute(frame, KIND)
    parts = side(scratch_space(frame), 0)
    if kind == WINOGRAD_CONVOLUTION:
        _do(frame, _TRANSFORM_KERNEL, parts)
    _do(frame, kind, parts)
    return 0
