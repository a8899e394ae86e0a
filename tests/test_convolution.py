import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from small_networks import create_model

from mixup_jax import cpu_convolution as convolution
from mixup_jax.cpu_convolution import availability, kernels

LANES = availability.lanes()
SIZES = st.integers(1, 9)
XLA_ONLY = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}
XLA_ONLY |= {"dimension_numbers": convolution._DIMENSIONS}

pytestmark = pytest.mark.skipif(not LANES, reason="the kernels are not for this processor")


def let_it_apply(patch: pytest.MonkeyPatch) -> None:
    """The kernels are for processes of one device, where the tests have eight, and for large convolutions."""
    patch.setattr(jax, "device_count", lambda: 1)
    patch.setattr(convolution, "_MULTIPLICATIONS", 1)


@pytest.fixture
def applicable(monkeypatch: pytest.MonkeyPatch) -> None:
    let_it_apply(monkeypatch)


def value_and_gradients(convolve, x, kernel, cotangent):
    @jax.jit
    def computed(x, kernel, cotangent):
        value, pull = jax.vjp(convolve, x, kernel)
        return value, *pull(cotangent)

    return computed(x, kernel, cotangent)


def both_ways(x, kernel, strides, padding):
    """The output and the gradients by our convolution and by XLA's."""
    shape = jax.eval_shape(
        partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **XLA_ONLY), x, kernel
    )
    cotangent = jnp.ones(shape.shape, shape.dtype)
    return [
        value_and_gradients(
            lambda x, kernel, way=way: way(x, kernel, strides, padding, **XLA_ONLY), x, kernel, cotangent
        )
        for way in (convolution.conv_general_dilated, jax.lax.conv_general_dilated)
    ]


def padded_by_one(stride):
    """Our convolution and XLA's."""
    geometry = ((stride, stride), ((1, 1), (1, 1)))
    return [
        lambda x, kernel, way=way: way(x, kernel, *geometry) for way in (convolution._convolve, convolution._native)
    ]


def whole(generator, shape, factor=1):
    return jnp.asarray(factor * generator.integers(-4, 5, size=shape), jnp.float32)


def sums_of_products(x, kernel, cotangent, strides, pads):
    """The output and the gradients of kernel and images, from their definition."""
    x, kernel, cotangent = (np.asarray(array, float) for array in (x, kernel, cotangent))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    value, of_kernel, of_padded = np.zeros(cotangent.shape), np.zeros(kernel.shape), np.zeros(padded.shape)
    for i, j in np.ndindex(kernel.shape[:2]):
        rows, columns = (
            slice(at, at + step * count, step)
            for at, step, count in zip((i, j), strides, value.shape[1:3], strict=True)
        )
        met = (slice(None), rows, columns)
        value += padded[met] @ kernel[i, j]
        of_kernel[i, j] = np.einsum("bhwc,bhwk->ck", padded[met], cotangent)
        of_padded[met] += cotangent @ kernel[i, j].T
    (top, _), (left, _) = pads
    return value, of_kernel, of_padded[:, top : top + x.shape[1], left : left + x.shape[2]]


@settings(max_examples=12, deadline=None)
@given(
    batch=st.integers(1, 7),
    height=SIZES,
    width=SIZES,
    channels=st.sampled_from([1, 3, LANES, 2 * LANES]),
    maps=st.sampled_from([LANES, 2 * LANES, 3 * LANES]),
    size=st.sampled_from([(1, 1), (2, 3), (3, 3), (3, 3), (5, 2)]),
    strides=st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 2)]),
    padding=st.sampled_from(["SAME", "SAME", "VALID", [(1, 1), (1, 1)], [(0, 2), (1, 4)], [(3, 0), (2, 3)]]),
    parts=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@example(1, 33, 18, LANES, LANES, (3, 3), (1, 1), "SAME", 1, 0)
@example(7, 5, 4, 2 * LANES, 3 * LANES, (3, 3), (1, 1), "SAME", 3, 0)
@example(5, 2, 1, LANES, 2 * LANES, (3, 3), (1, 1), "SAME", 2, 0)
@example(3, 8, 7, LANES, LANES, (3, 3), (2, 2), "SAME", 2, 0)
@example(2, 7, 9, 2 * LANES, LANES, (3, 3), (2, 2), [(0, 2), (1, 4)], 2, 0)
@example(3, 8, 8, LANES, LANES, (1, 1), (2, 2), "VALID", 3, 0)
@example(2, 17, 30, 3, LANES, (7, 7), (2, 2), [(3, 3), (2, 3)], 2, 0)
@example(2, 1, 1, LANES, LANES, (1, 1), (1, 4), [(0, 0), (3, 0)], 1, 0)
@example(2, 9, 9, LANES, LANES, (2, 2), (3, 3), [(1, 0), (1, 0)], 2, 0)
@example(90, 9, 9, LANES, LANES, (2, 2), (3, 3), [(1, 0), (1, 0)], 3, 0)
@example(3, 1, 8, LANES, LANES, (2, 3), (1, 1), [(3, 0), (2, 3)], 1, 0)
@example(9, 15, 15, LANES, LANES, (3, 3), (1, 1), "SAME", 1, 0)
def test_the_kernels_are_the_convolution_and_its_gradients(
    batch, height, width, channels, maps, size, strides, padding, parts, seed
):
    """Of small whole numbers, exactly: nothing is rounded, since filtering multiplies weights by quarters."""
    assume(padding != "VALID" or (height >= size[0] and width >= size[1]))
    pads = jax.lax.padtype_to_pads((height, width), size, strides, padding) if isinstance(padding, str) else padding
    generator = np.random.default_rng(seed)
    x, kernel = whole(generator, (batch, height, width, channels)), whole(generator, (*size, channels, maps), factor=4)
    sides = convolution._outputs(x, kernel, strides, pads)
    assume(min(sides) > 0)
    cotangent = whole(generator, (batch, *sides, maps), factor=4)

    @jax.jit
    def computed(x, kernel, cotangent):
        way = partial(convolution.conv_general_dilated, strides=strides, padding=padding, **XLA_ONLY)
        value, pull = jax.vjp(way, x, kernel)
        of_images, of_kernel = pull(cotangent)
        # XLA's own gradient of images is wrong, or ends the process, where padding is wide and strides differ.
        return (value, of_kernel, of_images) if channels % LANES == 0 else (value, of_kernel)

    with pytest.MonkeyPatch.context() as patch:
        let_it_apply(patch)
        patch.setattr(kernels, "_parts", lambda images, sums=1: min(parts, images.shape[0]))
        assert "mixup_jax" in computed.lower(x, kernel, cotangent).as_text()
        found = computed(x, kernel, cotangent)
    for our, truth in zip(found, sums_of_products(x, kernel, cotangent, strides, pads), strict=False):
        assert our.dtype == jnp.float32
        np.testing.assert_array_equal(our, truth)


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize("stride", [1, 2])
def test_they_round_about_as_the_convolution_does(stride):
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(8, 12, 12, 2 * LANES)), generator.normal(size=(3, 3, 2 * LANES, 2 * LANES))
    single = both_ways(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), (stride, stride), "SAME")
    with jax.enable_x64(True):
        exact = both_ways(jnp.asarray(x), jnp.asarray(kernel), (stride, stride), "SAME")[1]
    for our, native, truth in zip(*single, exact, strict=True):
        ours, natives = (np.std(np.asarray(way, float) - np.asarray(truth)) for way in (our, native))
        assert ours < 4 * natives + 1e-7


@pytest.mark.usefixtures("applicable")
def test_what_is_not_finite_stays_so():
    x, kernel = jnp.ones((2, 6, 6, LANES)).at[1, 2, 2, 0].set(jnp.nan), jnp.ones((3, 3, LANES, LANES))
    ours, natives = both_ways(x, kernel, (1, 1), "SAME")
    for our, native in zip(ours, natives, strict=True):
        assert not np.isfinite(np.asarray(our)[~np.isfinite(native)]).any()
    assert np.isfinite(ours[0][0]).all()


@pytest.mark.usefixtures("applicable")
def test_the_same_bits_come_out_however_the_threads_run(monkeypatch):
    monkeypatch.setattr(kernels, "_parts", lambda images, sums=1: 5)
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(16, 14, 14, LANES)), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=(3, 3, LANES, LANES)), jnp.float32)
    program = jax.jit(lambda x, kernel: jax.vjp(padded_by_one(1)[0], x, kernel)[1](x))
    first = program(x, kernel)
    for _ in range(50):
        for array, again in zip(first, program(x, kernel), strict=True):
            np.testing.assert_array_equal(array, again)


def seconds_of_threads():
    """Processor time of each thread of this process so far, in clock ticks."""
    stats = {
        task.name: (task / "stat").read_text().rpartition(")")[2].split() for task in Path("/proc/self/task").iterdir()
    }
    return {name: int(fields[11]) + int(fields[12]) for name, fields in stats.items()}


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="reads the threads of Linux")
@pytest.mark.usefixtures("applicable")
def test_several_threads_share_the_work():
    x, kernel = jnp.ones((64, 28, 28, 2 * LANES)), jnp.ones((3, 3, 2 * LANES, 2 * LANES))
    program = jax.jit(padded_by_one(1)[0])
    program(x, kernel).block_until_ready()
    before = seconds_of_threads()
    for _ in range(60):
        program(x, kernel).block_until_ready()
    worked = sorted(after - before.get(name, 0) for name, after in seconds_of_threads().items())
    assert worked[-2] > 0.1 * worked[-1]


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize("stride", [1, 2])
def test_they_are_mapped_over_networks(stride):
    generator = np.random.default_rng(0)
    x = whole(generator, (3, 4, 6, 6, LANES))
    kernel = whole(generator, (3, 3, 3, LANES, LANES), factor=4)
    cotangent = whole(generator, (3, 4, 6 // stride, 6 // stride, LANES), factor=4)
    ours, native = (partial(value_and_gradients, way) for way in padded_by_one(stride))
    found = jax.vmap(ours)(x, kernel, cotangent)
    wanted = [native(*inputs) for inputs in zip(x, kernel, cotangent, strict=True)]
    for mapped, single in zip(found, zip(*wanted, strict=True), strict=True):
        np.testing.assert_array_equal(mapped, jnp.stack(single))


def program(x, kernel, strides=(1, 1), padding="SAME", **changed):
    way = partial(convolution.conv_general_dilated, **(XLA_ONLY | changed))
    return jax.jit(jax.grad(lambda x, k: jnp.sum(way(x, k, strides, padding)), (0, 1))).lower(x, kernel).as_text()


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize(
    "changed",
    [
        {"feature_group_count": 2},
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))},
        {"padding": ((1, 1), (1, -1))},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"channels": LANES - 1, "maps": LANES + 1},
    ],
)
def test_what_the_kernels_are_not_for_is_left_to_xla(changed):
    changed = dict(changed)
    dtype, channels, maps = (
        changed.pop(*item) for item in (("dtype", "float32"), ("channels", LANES), ("maps", LANES))
    )
    x = jnp.ones((2, 6, 6, channels), dtype)
    kernel = jnp.ones((3, 3, channels // changed.get("feature_group_count", 1), maps), dtype)
    assert "mixup_jax" in program(jnp.ones((2, 6, 6, LANES)), jnp.ones((3, 3, LANES, LANES)))
    text = program(x, kernel, **changed)
    assert "stablehlo.convolution" in text
    assert "mixup_jax" not in text


@pytest.mark.usefixtures("applicable")
def test_where_there_is_no_output_there_is_no_call():
    x, kernel = jnp.ones((2, 2, 9, LANES)), jnp.ones((5, 2, LANES, LANES))
    assert "mixup_jax" not in program(x, kernel, padding="VALID")


@pytest.mark.parametrize("limit", ["devices", "accelerator", "processor", "size"])
def test_everything_is_left_to_xla_where_the_kernels_cannot_run_or_do_not_pay(limit, monkeypatch):
    let_it_apply(monkeypatch)
    if limit == "devices":
        monkeypatch.setattr(jax, "device_count", lambda: 2)
    elif limit == "accelerator":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    elif limit == "processor":
        monkeypatch.setattr(convolution, "lanes", lambda: 0)
    else:
        monkeypatch.setattr(convolution, "_MULTIPLICATIONS", 2 * 36 * 9 * LANES**2 + 1)
    text = program(jnp.ones((2, 6, 6, LANES)), jnp.ones((3, 3, LANES, LANES)))
    assert "stablehlo.convolution" in text
    assert "mixup_jax" not in text


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_plain_convolutions(platform, stride):
    def loss(x, kernel, way):
        return jnp.sum(jnp.sin(way(x, kernel)))

    x, kernel = jnp.ones((8, 6, 6, 64)), jnp.ones((3, 3, 64, 64))
    texts = [
        jax.jit(jax.grad(partial(loss, way=way), argnums=(0, 1)))
        .trace(x, kernel)
        .lower(lowering_platforms=(platform,))
        .as_text()
        for way in padded_by_one(stride)
    ]
    operations = ("convolution", "dot_general", "while", "custom_call")
    counts = [[text.count(f"stablehlo.{name}") for name in operations] for text in texts]
    assert counts[0] == counts[1]


def test_work_is_cut_by_processors_images_and_memory(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert kernels._parts(jnp.ones((3, 1))) == 3
    assert kernels._parts(jnp.ones((100, 1))) == 64
    assert kernels._parts(jnp.ones((100, 1)), sums=2**24) == 4
    assert kernels._parts(jnp.ones((100, 1)), sums=2**30) == 1


def in_a_process(script, **environment):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **environment}
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.split()


def test_a_process_of_one_device_uses_the_kernels_where_they_pay():
    script = """
import jax, jax.numpy as jnp
from mixup_jax.config import ModelConfig
from mixup_jax.models import model_of
model = model_of(ModelConfig(name="resnet8", width=64), classes=10)
for batch in (128, 1):
    x = jax.ShapeDtypeStruct((batch, 7, 7, 1), "float32")
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)
    text = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, x).as_text()
    print("mixup_jax.convolution" in text)
"""
    assert in_a_process(script) == ["True", "False"]


ON_OTHER_REGISTERS = """
import platform
import numba
from llvmlite import binding
from llvmlite.binding.targets import FeatureMap
binding.get_host_cpu_features = lambda: FeatureMap({features})
platform.machine = lambda: "{machine}"
from mixup_jax.cpu_convolution import availability
print(availability.lanes(), availability.compare())
"""


@pytest.mark.parametrize(
    ("features", "machine", "lanes"),
    [("avx2=True, fma=True", "x86_64", 8), ("", "aarch64", 4)],
)
def test_processors_with_shorter_registers_compute_the_same(features, machine, lanes, tmp_path):
    script = ON_OTHER_REGISTERS.replace("{features}", f"dict({features})").replace("{machine}", machine)
    switches = {"NUMBA_CACHE_DIR": str(tmp_path), availability.SWITCH: "unchecked"}
    assert in_a_process(script, **switches) == [str(lanes), availability.AGREES]


def test_without_numbas_compiler_there_are_no_kernels():
    script = "from mixup_jax.cpu_convolution import availability\nprint(availability.lanes())"
    assert in_a_process(script, NUMBA_DISABLE_JIT="1") == ["0"]


def test_a_compiled_program_is_found_again_by_another_process(tmp_path):
    script = """
import sys
import jax, jax.numpy as jnp, numpy as np
from mixup_jax import cpu_convolution as convolution
convolution._MULTIPLICATIONS = 1
generator = np.random.default_rng(0)
x = jnp.asarray(generator.normal(size=(4, 8, 8, 64)), jnp.float32)
kernel = jnp.asarray(generator.normal(size=(3, 3, 64, 64)), jnp.float32)
way = lambda x, kernel: convolution._convolve(x, kernel, (1, 1), ((1, 1), (1, 1)))
print(np.asarray(jax.jit(way)(x, kernel)).tobytes().hex()[:4096])
"""
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    first = in_a_process(script, **environment)
    kept = {path.name for path in Path(tmp_path).glob("*-cache")}
    assert kept
    assert in_a_process(script, **environment) == first
    assert {path.name for path in Path(tmp_path).glob("*-cache")} == kept


HEADER = availability.header()
EXTENSION = ("XLA_FFI_Extension_Base", "XLA_FFI_InternalExtension")  # in jaxlib 0.10 and 0.12


def test_the_installed_interface_is_the_one_that_the_kernels_were_written_for():
    assert availability.mismatch(HEADER) == ""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (HEADER, "", "no header"),
        ("API_MAJOR 0", "API_MAJOR 1", "has major version 1, and they were written for 0"),
        ("Extension_Metadata = 1", "Extension_Metadata = 2", "asks for a kernel's version in an unknown way"),
        ("  XLA_FFI_ArgType* types;", "  int64_t more;\n  XLA_FFI_ArgType* types;", "XLA_FFI_CallFrame.args.args of"),
        ("  const XLA_FFI_Api* api;", "", "XLA_FFI_CallFrame.api of"),
        ("  int64_t rank;\n  int64_t* dims;", "  int64_t* dims;\n  int64_t rank;", "XLA_FFI_Buffer.rank of"),
        ("  void* data;\n  int64_t rank;", "  void* other;\n  int64_t rank;", "XLA_FFI_Buffer.data of"),
        ("  XLA_FFI_Task* task;", "  int priority;\n  XLA_FFI_Task* task;", "XLA_FFI_ThreadPool_Schedule_Args.task"),
        ("  _XLA_FFI_API_STRUCT_FIELD(XLA_FFI_Stream_Get);", "", "XLA_FFI_Api.XLA_FFI_ThreadPool_Schedule of"),
    ],
)
def test_another_interface_is_noticed(old, new, message):
    assert old in HEADER
    assert message in availability.mismatch(HEADER.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("API_MINOR ", "API_MINOR 1"),
        EXTENSION if EXTENSION[0] in HEADER else EXTENSION[::-1],
        ("STRUCT_FIELD(XLA_FFI_DeviceOrdinal_Get);", "STRUCT_FIELD(XLA_FFI_DeviceOrdinal_Get);\n  void* another;"),
        ("  int64_t* dims;", "  int64_t* dims;\n  int32_t layout;"),
        ("  XLA_FFI_Future* future;  // out\n};\n\nXLA_FFI_DEFINE_STRUCT_TRAITS(XLA_FFI_CallFrame", "};\n\n(X"),
    ],
)
def test_what_moves_nothing_that_is_read_makes_no_difference(old, new):
    assert old in HEADER
    assert availability.mismatch(HEADER.replace(old, new)) == ""


ON_ANOTHER_JAXLIB = """
import jax, jax.numpy as jnp
jax.ffi.include_dir = lambda: "{folder}"
from mixup_jax import cpu_convolution
x, kernel = jnp.ones((16, 28, 28, 64)), jnp.ones((3, 3, 64, 64))
for stride in (1, 2):
    program = jax.jit(lambda x, kernel: cpu_convolution._convolve(x, kernel, (stride, stride), ((1, 1), (1, 1))))
    print("mixup_jax" in program.lower(x, kernel).as_text(), float(program(x, kernel)[0, 4, 4, 0]))
"""


def test_a_run_on_another_jaxlib_is_xlas_and_says_so_in_one_line(tmp_path):
    header = tmp_path / "xla/ffi/api/c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text(HEADER.replace("API_MAJOR 0", "API_MAJOR 1"))
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    script = ON_ANOTHER_JAXLIB.replace("{folder}", str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ran.stdout.split() == ["False", "576.0"] * 2, ran.stderr
    ours = [line for line in ran.stderr.splitlines() if "convolutions" in line]
    assert len(ours) == 1, ran.stderr
    assert ours[0].startswith("convolutions are XLA's, not the package's faster ones: XLA's interface")


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    """The folder that outcomes of comparisons are kept in, empty."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.mark.parametrize(
    ("comparison", "reason", "kept"),
    [
        ("print('agrees')", "", True),
        ("print('a warning\\ntheir results are not XLA\\'s')", "their results are not XLA's", True),
        ("import os; os.kill(os.getpid(), 11)", "comparing them with XLA's ended with code -11", True),
        ("import os; os.kill(os.getpid(), 9)", "comparing them with XLA's ended with code -9", False),
        ("raise MemoryError", "comparing them with XLA's ended with code 1", False),
        ("import time; time.sleep(60)", "they could not be compared with XLA's (TimeoutExpired)", False),
    ],
)
def test_a_first_comparison_decides_and_is_remembered(comparison, reason, kept, outcomes, monkeypatch):
    monkeypatch.setattr(availability, "_COMPARISON", comparison)
    monkeypatch.setattr(availability, "SECONDS", 3)
    assert availability._disagreement() == reason
    monkeypatch.setattr(availability, "_COMPARISON", "print('asked again')")
    again = availability._disagreement()
    assert again.startswith(reason if kept else "asked again")
    assert ("asked again" in again) != kept
    assert [path.suffix for path in outcomes.glob("*")] == [".txt"]


def test_another_version_of_jaxlib_is_compared_anew(outcomes, monkeypatch):
    monkeypatch.setattr(availability, "_COMPARISON", "print('agrees')")
    assert availability._disagreement() == ""
    version = availability.metadata.version
    monkeypatch.setattr(availability.metadata, "version", lambda name: "99" if name == "jaxlib" else version(name))
    monkeypatch.setattr(availability, "_COMPARISON", "print('asked again')")
    assert availability._disagreement() == "asked again"
    assert len(list(outcomes.glob("*"))) == 2


def test_where_nothing_can_be_kept_it_is_compared_each_time(monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/nowhere")
    for outcome in ("agrees", "asked again"):
        monkeypatch.setattr(availability, "_COMPARISON", f"print('{outcome}')")
        assert availability._disagreement() == ("" if outcome == "agrees" else outcome)


def test_whatever_else_goes_wrong_is_a_line_and_no_error(monkeypatch, capsys):
    def broken():
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(availability, "header", broken)
    assert availability.lanes.__wrapped__() == 0
    expected = "convolutions are XLA's, not the package's faster ones: RuntimeError: two"
    assert capsys.readouterr().err.startswith(expected)


def test_one_variable_switches_the_kernels_off():
    script = "from mixup_jax.cpu_convolution import availability\nprint(availability.lanes())"
    assert in_a_process(script, MIXUP_JAX_CPU_CONVOLUTION="0") == ["0"]


@pytest.mark.usefixtures("applicable")
@pytest.mark.parametrize("used", [True, False])
def test_a_config_switches_them_off(used):
    model = create_model("resnet8", classes=2, width=LANES, cpu_convolution=used)
    x = jnp.ones((2, 8, 8, 1))
    variables = model.init(jax.random.key(0), x, train=False)
    text = jax.jit(lambda x: model.apply(variables, x, train=False)).lower(x).as_text()
    assert ("mixup_jax" in text) == used


FAULTY = """
import ctypes
from llvmlite import binding
from numba import types
from mixup_jax.cpu_convolution import availability, compiling, direct, winograd, xla_calls
{fault}
# Only the threads' functions are compiled anew.
compiling.kept_if_possible = lambda compiler, signature: compiler(signature)
print(availability.compare())
"""
NO_MEMORY = """
failing = ctypes.CFUNCTYPE(ctypes.c_longlong, ctypes.c_longlong)(lambda size: 0)
binding.add_symbol("no_memory", ctypes.cast(failing, ctypes.c_void_p).value)
made = types.ExternalFunction.__init__
types.ExternalFunction.__init__ = lambda self, name, *kind: made(self, "no_memory" if name == "malloc" else name, *kind)
"""
# The stream of a GPU, which XLA answers with an error on a CPU.
NO_THREADS = "xla_calls.SCHEDULE = 10"


@pytest.mark.parametrize("fault", [NO_MEMORY, NO_THREADS, "xla_calls.THREADS = 10"])
def test_without_memory_or_threads_the_calling_thread_does_the_work(fault):
    script = FAULTY.replace("{fault}", fault)
    assert in_a_process(script, MIXUP_JAX_CPU_CONVOLUTION="unchecked") == [availability.AGREES]


WAITING = """
import ctypes
import numpy as np
from llvmlite import binding
from numba import types
from mixup_jax.cpu_convolution import compiling, direct, winograd
naps, yields, state = [], [], np.zeros(8, np.int64)
def nap(microseconds):
    naps.append(microseconds)
    # The part that another thread does is done at last.
    state[4] += len(naps) == 25
    return 0
def give_way():
    yields.append(1)
    return 0
callbacks = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_longlong)(nap), ctypes.CFUNCTYPE(ctypes.c_int)(give_way)
for name, callback in zip(("nap", "give_way"), callbacks):
    binding.add_symbol(name, ctypes.cast(callback, ctypes.c_void_p).value)
made, names = types.ExternalFunction.__init__, {"usleep": "nap", "sched_yield": "give_way"}
types.ExternalFunction.__init__ = lambda self, name, *kind: made(self, names.get(name, name), *kind)
compiling.kept_if_possible = lambda compiler, signature: compiler(signature)
from mixup_jax.cpu_convolution import threads
threads._wait(state.ctypes.data, 1)
print(len(yields) == threads._YIELDS, *naps)
"""


def test_a_waiting_thread_soon_sleeps_between_its_looks():
    yielded, *naps = in_a_process(WAITING)
    assert yielded == "True"
    assert [int(nap) for nap in naps] == [*range(50, 1001, 50), *[1000] * 5]
