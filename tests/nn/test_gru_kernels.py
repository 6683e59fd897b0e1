"""The GPU's kernels of the GRU: what they compute, in Triton's interpreter; and that they compile for a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genrl.nn import recurrence

triton = pytest.importorskip("triton", reason="Triton comes with torch for GPUs, and with the extra `dev` on Linux")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, dict[str, float]]]:
    command = [sys.executable, "-m", "tests.nn.interpreted_kernels"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_in_float32_states_and_gradients_are_those_of_autograd_in_float64(errors) -> None:
    assert all(error < 1e-5 for error in errors["torch.float32"]["kernels"].values()), errors


def test_in_bfloat16_they_are_as_near_to_float64_as_torchs_own_operations(errors) -> None:
    rough = errors["torch.bfloat16"]
    # The interpreter cuts bfloat16 off where hardware rounds: its errors are up to twice as large.
    assert all(rough["kernels"][name] < 2 * error for name, error in rough["torch"].items()), errors
    # What is added up before the gates is not rounded, as it is by torch's own addition.
    assert rough["kernels"]["states"] < rough["torch"]["states"]


@pytest.mark.parametrize("pointer", ["*bf16", "*fp32"])
@pytest.mark.parametrize("kernel", ["_forward_step", "_backward_step"])
def test_the_kernels_compile_for_a_gpu_and_stay_in_registers(kernel: str, pointer: str, tmp_path: Path) -> None:
    from genrl.nn import gru_kernels

    function = getattr(gru_kernels, kernel)
    products = {"projected", "recurrent", "factor", "through", "grad_summed"}
    plain = {"update_bias": "fp32", "eps": "fp32", "units": "i32", "LAST": "constexpr", "FIRST": "constexpr"}
    kinds = {
        name: plain.get(name, "constexpr" if name == "BLOCK" else pointer if name in products else "*fp32")
        for name in function.arg_names
    }
    flag = "LAST" if "LAST" in kinds else "FIRST"
    source = triton.compiler.ASTSource(function, kinds, {flag: False, "BLOCK": 1024})
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": gru_kernels.NUM_WARPS})
    code = tmp_path / "kernel.cubin"
    code.write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    used = subprocess.run([tool, "-res-usage", code], capture_output=True, text=True, check=True).stdout
    # All of a row's gates stay in registers.
    assert "LOCAL:0 " in used and "STACK:0 " in used, used


def test_a_cpu_has_no_kernels() -> None:
    assert recurrence.kernels(torch.device("cpu")) is None


def test_where_the_kernels_do_not_run_one_warning_says_so_and_torch_does_their_work() -> None:
    # Here there is no GPU at all.
    if torch.cuda.is_available():
        pytest.skip("they run")
    recurrence.kernels.cache_clear()
    with pytest.warns(UserWarning, match="the GRU's kernels do not run here"):
        assert recurrence.kernels(torch.device("cuda")) is None
    assert recurrence.kernels(torch.device("cuda")) is None
