"""Reading compiled programs: small ones compiled here, and lines as the compiler for TPUs writes them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mixup_jax.ahead.hlo import Shape, collectives, host_transfers
from mixup_jax.devices.mesh import AXIS, device_mesh

TPU = """\
HloModule jit_f, is_scheduled=true, input_output_alias={ {}: (0, {}, may-alias) }, num_partitions=4

%start.4 (param_0.10: bf16[256,512]) -> (bf16[256,512], bf16[1024,512], u32[]) {
  %param_0.10 = bf16[256,512]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.3 = bf16[1024,512]{1,0:T(8,128)(2,1)} all-gather(%param_0.10), channel_id=1, frontend_attributes={chain_id="0"}, metadata={op_name="jit(f)/all_gather"}
  ROOT %custom-call.1 = (bf16[256,512]{1,0}, bf16[1024,512]{1,0}, u32[]{:S(2)}) custom-call(%all-gather.3), custom_call_target="AsyncCollectiveStart"
}

%overlapping.13 (param_0.13: bf16[256,512]) -> bf16[1024,512] {
  %param_0.13 = bf16[256,512]{1,0} parameter(0)
  ROOT %all-gather.5 = bf16[1024,512]{1,0} all-gather(%param_0.13), channel_id=1, frontend_attributes={chain_id="0"}, metadata={op_name="jit(f)/all_gather"}
}

%region_1.0 (x.1: f32[], y.1: f32[]) -> f32[] {
  ROOT %add.1 = f32[] add(%x.1, %y.1)
}

%called.7 (wide.param.2: (f32[256,512], /*index=1*/bf16[256,512])) -> f32[256,512] {
  ROOT %psum.17 = f32[256,512]{1,0:T(8,128)S(1)} all-reduce(%wide.param.2), channel_id=1, to_apply=%region_1.0, metadata={op_name="jit(f)/while/body/psum"}
}

%body.3 (wide.param.1: (f32[256,512], /*index=1*/bf16[256,512])) -> (f32[256,512], bf16[256,512]) {
  %fusion.13 = bf16[1024,512]{1,0} fusion(%wide.param.1), kind=kOutput, calls=%overlapping.13
  ROOT %call.1 = f32[256,512]{1,0} call(%wide.param.1), to_apply=%called.7
}

%condition.4 (wide.param.3: (f32[256,512], /*index=1*/bf16[256,512])) -> pred[] {
  ROOT %lt = pred[] constant(true)
}

ENTRY %main.8_spmd (param.4: f32[256,512], param.5: bf16[512,512]) -> f32[256,512] {
  %async-collective-start = (bf16[256,512]{1,0}, bf16[1024,512]{1,0}, u32[]{:S(2)}) fusion(%param.5), kind=kCustom, calls=%start.4
  %collective-permute-start = (f32[256,512]{1,0:T(8,128)}, f32[256,512]{1,0:T(8,128)S(1)}, u32[]{:S(2)}) collective-permute-start(%param.4), source_target_pairs={{0,1},{1,0}}
  %debug_callback.20 = (f32[]{:T(128)}, u32[], token[]) send(%bitcast), channel_id=1, is_host_transfer=true
  %while.10 = (f32[256,512]{1,0}, /*index=1*/bf16[256,512]{1,0}) while(%tuple.1), condition=%condition.4, body=%body.3
  %collective-permute-done = f32[256,512]{1,0} collective-permute-done(%collective-permute-start)
  ROOT %all-reduce-start = (f32[3]{0}, pred[4,2]{1,0}, s4[3]{0}) all-reduce-start(%a, %b, %c), to_apply=%region_1.0
}
"""  # noqa: E501, since the compiler writes one instruction a line


def test_an_asynchronous_collective_counts_once():
    found = {one.name: one for one in collectives(TPU)}
    assert [one.kind for one in found.values()] == ["all-gather", "all-reduce", "collective-permute", "all-reduce"]
    assert found["all-gather.3"].shapes == (Shape("bf16", (1024, 512)),)
    assert found["all-gather.3"].source == "jit(f)/all_gather"
    assert found["collective-permute-start"].bytes == 256 * 512 * 4
    assert found["all-reduce-start"].bytes == 12 + 8 + 2


def test_what_a_loop_calls_is_in_the_loop_and_what_overlaps_with_it_is_not():
    assert [one.name for one in collectives(TPU) if one.in_loop] == ["psum.17"]


def test_sends_are_transfers():
    assert host_transfers(TPU) == ["debug_callback.20: send"]


@pytest.fixture(scope="module")
def compiled() -> str:
    mesh = device_mesh(jax.devices()[:4])

    @partial(jax.shard_map, mesh=mesh, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS), check_vma=False)
    def program(x: jax.Array) -> jax.Array:
        gathered = jax.lax.all_gather(x, AXIS, tiled=True)
        passed = jax.lax.ppermute(x, AXIS, [(0, 1), (1, 0)])
        jax.debug.callback(lambda _: None, x[0, 0])

        def body(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            return jnp.tanh(jax.lax.psum(carry, AXIS)), None

        looped, _ = jax.lax.scan(body, x, None, length=5)
        return passed + looped + gathered.sum()

    x = jax.ShapeDtypeStruct((8, 6), np.float32, sharding=NamedSharding(mesh, PartitionSpec(AXIS)))
    return jax.jit(program, donate_argnums=0).lower(x).compile().as_text()


def test_a_program_is_read_as_it_was_written(compiled: str):
    found = {one.kind: one for one in collectives(compiled)}
    assert found.keys() == {"all-gather", "collective-permute", "all-reduce"}
    assert found["all-gather"].shapes == (Shape("f32", (8, 6)),)
    assert {kind for kind, one in found.items() if one.in_loop} == {"all-reduce"}
    assert found["all-reduce"].bytes == 2 * 6 * 4
    assert "psum" in found["all-reduce"].source
    (transfer,) = host_transfers(compiled)
    assert "callback" in transfer
