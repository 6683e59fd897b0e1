"""Devices and precision by name."""

from __future__ import annotations

import pytest
import torch

from genrl.infra.compute import Rounded, autocast, fast_precision, pick_device
from genrl.infra.errors import UserError


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert pick_device("auto").type == name


def test_an_absent_or_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: .* use --device cpu"):
        pick_device("cuda")
    with pytest.raises(UserError, match="'tpu'"):
        pick_device("tpu")


def test_autocast_changes_products_and_leaves_float32_alone() -> None:
    matrix = torch.ones(2, 2)
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (matrix @ matrix).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "float32"):
        assert (matrix @ matrix).dtype == torch.float32
    with pytest.raises(UserError, match="'float8'"):
        autocast(torch.device("cpu"), "float8")


def test_bfloat16_is_fast_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert fast_precision(torch.device("cpu")) == "float32"
    assert fast_precision(torch.device("cuda")) == "bfloat16"
    matrix = torch.ones(2, 2)
    with autocast(torch.device("cpu"), "auto"):
        assert (matrix @ matrix).dtype == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert fast_precision(torch.device("cpu")) == "bfloat16"
    with autocast(torch.device("cpu"), "auto"):
        assert (matrix @ matrix).dtype == torch.bfloat16


def test_rounded_matrices_give_what_autocast_gives_and_follow_their_module() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    rounded, x = Rounded(module, "bfloat16"), torch.randn(4, 8)
    assert [p.dtype for p in rounded.module.parameters() if p.ndim > 1] == [torch.bfloat16] * 2
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert rounded.module(x).equal(module(x))
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        rounded.refresh()
    assert Rounded(module, "float32").module is module
