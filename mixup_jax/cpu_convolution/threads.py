"""The function that XLA calls for every kernel, and how XLA's threads share its work.

The work is cut into parts.  The calling thread offers them to XLA's threads and takes parts itself until none is left,
so that it never depends on busy threads.  Then it waits for the parts that other threads have begun.
"""

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mixup_jax.cpu_convolution import direct, winograd
from mixup_jax.cpu_convolution.compiling import kept, symbol
from mixup_jax.cpu_convolution.vectors import INDEX
from mixup_jax.cpu_convolution.xla_calls import (
    API,
    CONTEXT,
    DESTROY,
    KIND,
    SCHEDULE,
    THREADS,
    asks_for_version,
    attribute,
    scratch_space,
    side,
    words,
)

WINOGRAD_CONVOLUTION, WINOGRAD_KERNEL_GRADIENT, CONVOLUTION, KERNEL_GRADIENT, IMAGE_GRADIENT = range(5)
_TRANSFORM_KERNEL = 5

_transform_kernel, _filter, _add_filtered = winograd.transform_kernel, winograd.convolve, winograd.add_products
_convolve, _add_products, _scatter = direct.convolve, direct.add_products, direct.scatter

# The memory that the threads share: the call's frame, the task and its number of parts, the parts begun and done, and
# the number of threads that may still read it.  A request to XLA follows.
_FRAME, _TASK, _PARTS, _BEGUN, _DONE, _USERS, _REQUEST = range(7)
_BYTES = 8 * (_REQUEST + 5)

_YIELDS = 1000
"""A waiting thread looks this often, for about half a millisecond, before it sleeps between looks."""
_NAP, _LONGEST_NAP = 50, 1000
"""Microseconds by which each sleep is longer than the one before, and of the longest sleep."""

_malloc = types.ExternalFunction("malloc", types.int64(types.int64))
_free = types.ExternalFunction("free", types.void(types.int64))
_yield = types.ExternalFunction("sched_yield", types.int32())
_sleep = types.ExternalFunction("usleep", types.int32(types.int64))


@intrinsic
def _add(typing: Any, address: Any, place: Any, value: Any) -> Any:
    """Adds to a word atomically, and returns its previous value."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        address, place, value = given
        word = builder.gep(builder.inttoptr(address, INDEX.as_pointer()), [place])
        return builder.atomic_rmw("add", word, value, "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def _call(typing: Any, function: Any, argument: Any) -> Any:
    """Calls a C function, given its address, that takes and returns an address."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(INDEX, [INDEX]).as_pointer()
        return builder.call(builder.inttoptr(given[0], kind), [given[1]])

    return types.int64(types.int64, types.int64), generate


@symbol(types.void(types.int64, types.int64, types.int64, types.int64))
def _do_part(task: int, frame: int, part: int, parts: int) -> None:
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


@numba.njit
def _leave(state: int) -> None:
    """Frees the shared memory if this thread is its last user."""
    if _add(state, _USERS, -1) == 1:
        _free(state)


@symbol(types.void(types.int64))
def _work(state: int) -> None:
    """Does parts until all have been begun."""
    shared = words(state)
    frame, task, parts = shared[_FRAME], shared[_TASK], shared[_PARTS]
    part = _add(state, _BEGUN, 1)
    while part < parts:
        _do_part(task, frame, part, parts)
        _add(state, _DONE, 1)
        part = _add(state, _BEGUN, 1)
    _leave(state)


@intrinsic
def _work_address(typing: Any) -> Any:
    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [INDEX])
        return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, kind, _work.symbol), INDEX)

    return types.int64(), generate


@numba.njit
def _succeeds(api: Any, function: int, request: int, size: int) -> bool:
    """Returns whether a function of XLA's interface succeeds, given a request of `size` words; frees the error."""
    asked = words(request)
    asked[0], asked[1] = 8 * size, 0
    error = _call(api[function], request)
    if error != 0:
        asked[0], asked[1], asked[2] = 8 * 3, 0, error
        _call(api[DESTROY], request)
    return error == 0


@numba.njit
def _wait(state: int, parts: int) -> None:
    """Returns when all parts are done."""
    looks = 0
    while _add(state, _DONE, 0) < parts:
        looks += 1
        if looks <= _YIELDS:
            _yield()
        else:
            _sleep(min(_NAP * (looks - _YIELDS), _LONGEST_NAP))


@symbol(types.void(types.int64, types.int64, types.int64))
def _do(frame: int, task: int, parts: int) -> None:
    """Does all parts of a task with XLA's threads, or alone if the shared memory cannot be allocated."""
    state = _malloc(_BYTES)
    if state == 0:
        for part in range(parts):
            _do_part(task, frame, part, parts)
        return
    api, shared, request = words(words(frame)[API]), words(state), state + 8 * _REQUEST
    asked = words(request)
    # XLA writes the number of threads into the fifth word; without a thread pool it stays 1.
    asked[2], asked[3], asked[4] = words(frame)[CONTEXT], request + 8 * 4, 1
    helpers = min(asked[4], parts) - 1 if _succeeds(api, THREADS, request, 4) else 0
    shared[_FRAME], shared[_TASK], shared[_PARTS], shared[_BEGUN], shared[_DONE] = frame, task, parts, 0, 0
    shared[_USERS] = 2 + helpers
    asked[2], asked[3], asked[4] = words(frame)[CONTEXT], _work_address(), state
    for helper in range(helpers):
        if not _succeeds(api, SCHEDULE, request, 5):
            _add(state, _USERS, helper - helpers)
            break
    _work(state)
    _wait(state, parts)
    _leave(state)


@kept(types.int64(types.int64))
def handler(frame: int) -> int:
    """Runs the kernel that the attribute `kind` names, in as many parts as the scratch space has; returns 0."""
    if asks_for_version(frame):
        return 0
    kind = attribute(frame, KIND)
    parts = side(scratch_space(frame), 0)
    if kind == WINOGRAD_CONVOLUTION:
        _do(frame, _TRANSFORM_KERNEL, parts)
    _do(frame, kind, parts)
    return 0
