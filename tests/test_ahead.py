"""What a step would need on devices that are not there, against closed forms and the program itself."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import scaling
from mixup_jax import cpu_convolution
from mixup_jax.ahead import compile as compiling
from mixup_jax.ahead.hlo import Collective, Shape, Unestimated, estimated_cycles, unestimated
from mixup_jax.ahead.program import (
    Call,
    Group,
    Memory,
    Program,
    Unfit,
    _needed,
    compile_program,
    export_record,
    grouped,
)
from mixup_jax.ahead.record import all_reduce_seconds, program_record, render, warnings, wasteful
from mixup_jax.ahead.topology import CHIPS, Target, find_target
from mixup_jax.compile_ahead import main
from mixup_jax.config_file import load_config
from mixup_jax.cpu_convolution.availability import lanes
from mixup_jax.devices.mesh import AXIS, device_mesh
from mixup_jax.errors import InputError
from mixup_jax.training.trainer import check_config

V5E = CHIPS["TPU v5 lite"]
TINY = ["--config=configs/quickstart.py", "--config.model.width=2", "--config.batch_size=64", "--examples=300"]
TINY += ["--config.method.group_size=8", "--config.evaluation.batch_size=16"]
ROOT = Path(__file__).parents[1]


def test_the_roofline_of_a_v5e_is_that_of_its_figures():
    # 3.08 TFLOP over 197 TFLOP/s are 15.6 ms, 49.8 GB over 819 GB/s are 60.8 ms.
    bounds = program_record(program(flops=3.08e12, accessed=49.8e9), target(), 1e12)["bounds"]
    assert bounds["compute_seconds"] == pytest.approx(15.63e-3, rel=1e-3)
    assert bounds["memory_seconds"] == pytest.approx(60.81e-3, rel=1e-3)
    assert (bounds["bound_seconds"], bounds["binds"]) == (bounds["memory_seconds"], "memory")
    bounds = program_record(program(flops=197e12, accessed=1.0), target(), 98.5e12)["bounds"]
    assert (bounds["binds"], bounds["utilisation_at_bound"]) == ("compute", pytest.approx(0.5))


def test_the_clocks_are_those_that_give_the_peaks():
    units = {"TPU v2": (128, 2), "TPU v3": (128, 4), "TPU v4": (128, 8), "TPU v5 lite": (128, 4), "TPU v5": (128, 8)}
    for kind, (side, count) in (units | {"TPU v6 lite": (256, 4)}).items():
        assert CHIPS[kind].flops == pytest.approx(2 * side**2 * count * CHIPS[kind].clock, rel=0.02)


def test_a_core_of_two_has_half_of_a_chip():
    half = CHIPS["TPU v3"].per_device(1)
    assert (half.flops, half.memory) == (CHIPS["TPU v3"].flops / 2, CHIPS["TPU v3"].memory / 2)
    assert CHIPS["TPU v4"].per_device(2) == CHIPS["TPU v4"]


def test_an_all_reduce_takes_what_a_ring_takes():
    # 90 MB over 4 chips: each sends 135 MB over two links of 45 GB/s, and messages go 2 hops there and 2 back.
    assert all_reduce_seconds([90e6], (2, 2), V5E) == pytest.approx(135e6 / 90e9 + 4e-6)
    assert all_reduce_seconds([45e6, 45e6], (2, 2), V5E) == pytest.approx(135e6 / 90e9 + 8e-6)
    assert all_reduce_seconds([90e6], (1,), V5E) == 0


def test_a_compiled_program_says_what_it_holds_computes_and_reduces():
    mesh = device_mesh()
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((AXIS,), ()))
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=rows)
    w = jax.ShapeDtypeStruct((32, 16), jnp.float32, sharding=whole)
    product = jax.jit(lambda x, w: jnp.sum(x @ w, axis=0), out_shardings=whole)
    program = compile_program(product.lower(x, w), examples=8)
    assert isinstance(program, Program)
    assert program.memory.arguments == 8 * 32 * 4 + 32 * 16 * 4
    assert program.memory.outputs == 16 * 4
    assert 2 * 8 * 32 * 16 <= program.flops <= 1.1 * 2 * 8 * 32 * 16
    assert program.collectives == (Group("all-reduce", 1, 1, 64, 64, 0),)
    assert (program.cycles, program.transfers) == (None, ())


def test_collectives_are_counted_by_kind():
    large, small = Shape("f32", (1000,)), Shape("bf16", (10,))
    found = [
        Collective("a", "all-reduce", (large, small), False, ""),
        Collective("b", "all-reduce", (small,), True, ""),
        Collective("c", "all-gather", (large,), False, ""),
    ]
    assert grouped(found) == (
        Group("all-reduce", 2, 3, 4040, 4020, 1),
        Group("all-gather", 1, 1, 4000, 4000, 0),
    )


SCHEDULED = """\
HloModule step, is_scheduled=true

%fused (p: f32[4]) -> f32[6] {
  %p = f32[4]{0} parameter(0)
  ROOT %pad.1 = f32[6]{0} pad(%p, %zero), padding=1_1
}

ENTRY %main (a: f32[4]) -> f32[8] {
  %a = f32[4]{0} parameter(0)
  %fusion = f32[6]{0} fusion(%a), kind=kLoop, calls=%fused, backend_config={"window":{"estimated_cycles":"120"}}
  %conv = f32[6]{0} convolution(%fusion, %a), dim_labels=b_i_o, backend_config={"estimated_cycles":"30"}
  ROOT %pad.2 = f32[8]{0} pad(%conv, %zero), padding=1_1
}
"""


def test_estimated_cycles_are_summed_and_what_has_none_is_named():
    assert estimated_cycles(SCHEDULED) == 150
    assert unestimated(SCHEDULED) == [Unestimated("pad", 1, 32)]
    without = SCHEDULED.replace('"120"', f'"{2**63 - 1}"')  # as the compiler writes it
    assert estimated_cycles(without) == 30
    assert unestimated(without) == [Unestimated("pad", 1, 32), Unestimated("fusion", 1, 24)]
    assert estimated_cycles("HloModule of_another_compiler") is None


def target(name: str = "v5e:1x1") -> Target:
    return Target(name, "tpu", device_mesh(jax.devices()[:1]), (1, 1), V5E)


def program(**changes: object) -> Program:
    parts = {
        "examples": 1, "seconds": 1.0, "memory": Memory(10, 20, 30), "flops": 1e9, "accessed": 1e9, "cycles": 3_000_000,
        "unestimated": (), "collectives": (), "transfers": (),
    }  # fmt: skip
    return Program(**(parts | changes))


def test_a_record_has_the_times_of_its_program():
    record = program_record(program(), target(), model_flops=0.9e9)
    assert record["memory"]["total"] == 60
    bounds = record["bounds"]
    assert bounds["estimated_seconds"] == pytest.approx(2e-3)  # 3 M cycles at 1.5 GHz
    assert bounds["utilisation_estimated"] == pytest.approx(0.9e9 / (2e-3 * 197e12))
    assert bounds["utilisation_at_bound"] == pytest.approx(0.9e9 / (1e9 / 819e9 * 197e12))
    assert not warnings(record, "train")


def test_what_is_wrong_is_warned_of():
    collectives = (Group("all-reduce", 3, 3, 12, 4, 2), Group("all-gather", 1, 1, 4, 4, 0))
    lines = warnings(program_record(program(collectives=collectives, transfers=("x: infeed",)), target(), 1e9), "train")
    assert [line.split()[1:4] for line in lines] == [
        ["2", "all-reduce", "inside"],
        ["1", "all-gather", "found,"],
        ["exchanges", "x:", "infeed"],
    ]
    many = program_record(program(flops=1.31e9), target(), 1e9)
    assert wasteful(many)
    assert warnings(many, "train") == [
        "train: 1.31e+09 FLOPs are 1.31 times the network's own; more than 1.3 mean that devices compute what others "
        "compute too, unless method erm has as many"
    ]
    assert not wasteful(program_record(program(flops=1.29e9), target(), 1e9))
    too_large = program(memory=Memory(int(1e10), 0, int(1e10)))
    assert ["does not fit" in line for line in warnings(program_record(too_large, target(), 1.0), "train")] == [True]
    assert ["it needs 20.5 GB" in line for line in warnings(program_record(Unfit(1, 1.0, 20.5e9), target(), 1), "e")]


def test_a_refusal_says_how_much_it_would_take():
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.48G of 15.75G hbm. Exceeded by 4.73G"
    assert _needed(message) == pytest.approx(20.48 * 2**30)
    assert _needed("RESOURCE_EXHAUSTED: of another kind") is None


@pytest.fixture
def untouched_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("os.environ", {**__import__("os").environ})


@pytest.mark.usefixtures("untouched_environment")
def test_a_config_is_compiled_for_eight_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*TINY, "--topology=cpu:8", f"--output={tmp_path / 'a.json'}"]) == 0
    record = json.loads((tmp_path / "a.json").read_text())
    assert render(record) in capsys.readouterr().out
    train, evaluation = record["steps"]["train"], record["steps"]["eval"]
    assert (train["examples"], evaluation["examples"]) == (8, 2)
    assert [group["kind"] for group in train["collectives"]] == ["all-reduce"]
    assert not evaluation["collectives"]
    assert not record["warnings"]
    # Arguments: examples and their order on every device, besides the state.
    assert train["memory"]["arguments"] > 300 * (28 * 28 + 4 + 4)
    # The network's own FLOPs are most of what a program of so few operations beside it does.
    assert 0.5 < train["model_flops"] / train["flops"] < 1.5


@pytest.mark.skipif(not lanes(), reason="the kernels are not for this processor")
@pytest.mark.usefixtures("untouched_environment")
def test_kernels_of_our_own_are_named_and_leave_the_networks_flops_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def compiled(name: str) -> dict:
        width = f"--config.model.width={lanes()}"
        assert main([*TINY, width, "--topology=cpu:1", "--steps=eval", f"--output={tmp_path / name}"]) == 0
        return json.loads((tmp_path / name).read_text())

    plain = compiled("plain.json")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(cpu_convolution, "_MULTIPLICATIONS", 1)
    ours = compiled("ours.json")
    assert (plain["steps"]["eval"]["kernels"], plain["warnings"]) == (0, [])
    assert ours["steps"]["eval"]["kernels"] > 0
    assert ours["steps"]["eval"]["model_flops"] == plain["steps"]["eval"]["model_flops"]
    (line,) = ours["warnings"]
    assert line.startswith(f"eval: {ours['steps']['eval']['kernels']} calls of mixup_jax.cpu_convolution")


@pytest.mark.usefixtures("untouched_environment")
def test_strict_fails_where_work_is_done_in_vain_or_does_not_fit(monkeypatch: pytest.MonkeyPatch):
    for changes, code in (({}, 0), ({"work": 1.4}, 1), ({"fits": False}, 1)):
        step = program_record(program(), target(), 1e9) | changes
        record = {"steps": {"train": step}, "warnings": []}
        monkeypatch.setattr(compiling, "compile_ahead", lambda *_, record=record: record)
        monkeypatch.setattr("mixup_jax.ahead.record.render", lambda record: "")
        assert main([*TINY, "--topology=cpu:8", "--strict"]) == code
        assert main([*TINY, "--topology=cpu:8"]) == 0


@pytest.mark.usefixtures("untouched_environment")
def test_groups_that_span_devices_are_warned_of(tmp_path: Path):
    arguments = [*TINY, "--config.method.group_size=64", "--topology=cuda:2", "--steps=eval"]
    main([*arguments, f"--output={tmp_path / 'a.json'}"])
    lines = json.loads((tmp_path / "a.json").read_text())["warnings"]
    assert lines[0].startswith("mixing groups of 64 examples span devices that hold 32 each")


@pytest.mark.usefixtures("untouched_environment")
def test_a_config_is_exported_for_cuda(tmp_path: Path):
    assert main([*TINY, "--topology=cuda:8", "--steps=train", f"--output={tmp_path / 'a.json'}"]) == 0
    train = json.loads((tmp_path / "a.json").read_text())["steps"]["train"]
    assert (train["platforms"], train["devices"], train["collectives"]) == (["cuda"], 8, {})
    assert train["stablehlo_bytes"] > 10_000
    assert train["flops"] > 0


@pytest.mark.parametrize(("dtype", "kind"), [("bfloat16", "bf16"), ("float32", "f32")])
def test_a_step_for_a_gpu_has_its_type_and_channels_last_and_reuses_the_memory_of_its_state(dtype: str, kind: str):
    config = load_config("quickstart:mixup", ["--config.model.width=2", f"--config.model.dtype={dtype}"])
    spec, mesh, shapes = check_config(config), device_mesh(jax.devices()[:1]), compiling.Shapes(300, 0)
    parts = compiling.parts_for(config, spec, mesh, shapes)
    record = export_record(compiling.train_call(config, spec, parts, mesh, shapes), "cuda", 1)
    # Gradients of kernels read the same arrays, with the batch in the place of the channels.
    assert set(record["convolutions"]) == {f"{kind} b01f", f"{kind} f01b"}
    assert record["reused"] == len(jax.tree.leaves(jax.eval_shape(parts.initial_state, jax.random.key(0))))


def test_arrays_whose_memory_is_reused_are_counted():
    shape = jax.ShapeDtypeStruct((8,), jnp.float32)
    for donated in ((), (0,)):
        step = jax.jit(lambda state, x: (state + x, x.sum()), donate_argnums=donated)
        assert export_record(Call(step, (shape, shape), 8), "cuda", 1)["reused"] == len(donated)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.usefixtures("untouched_environment")
def test_a_config_is_compiled_for_a_tpu(tmp_path: Path):
    main([*TINY, "--topology=v5e:2x4", "--steps=eval", f"--output={tmp_path / 'a.json'}"])
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["topology"]["device"]["name"] == "v5e"
    assert record["steps"]["eval"]["cycles"] > 0
    assert record["steps"]["eval"]["bounds"]["estimated_seconds"] > 0


def test_the_tables_of_the_document_are_those_of_the_records():
    document = ROOT / "docs" / "scaling.md"
    assert scaling.written(document.read_text()) == document.read_text()


@pytest.mark.parametrize("name", ["cpu", "cpu:0", "cpu:-1", "cuda:x", "v5e", "v5e:", "v5e:4y4", "v5e:2x2x2x2"])
def test_a_topology_that_is_none_is_refused(name: str):
    with pytest.raises(InputError, match="topology is"):
        find_target(name)


def test_more_devices_than_jax_has_started_with_are_refused():
    with pytest.raises(InputError, match="expected a new process"):
        find_target("cpu:100")
