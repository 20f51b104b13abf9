"""The compiled kernels: right numbers, and bits that neither tiles, tails nor the kind of processor change."""

import ctypes
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glm5_model import experts
from glm5_model.errors import ModelError
from glm5_model.experts import combine
from glm5_model.kernels import Kernels, LayerExperts
from glm5_model.kernels.native import library as native
from glm5_model.kernels.native.kernels import NativeKernels
from unit.model.conftest import make_reference, page_table, serve, tokens

PLAIN = Kernels(torch.device("cpu"), torch.float32)
COUNTS = (1, 2, 3, 7, 8, 9, 12, 13, 40)
"""Rows on both sides of every tile's edge."""


@pytest.fixture(scope="module")
def kernels() -> NativeKernels:
    found = native.library()
    assert found is not None, "this machine's compiled kernels were not found"
    return NativeKernels(found, "invariant")


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("width", "out"), [(64, 96), (13, 37), (192, 130), (1, 1), (9, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_right_and_the_same_in_every_number_of_rows(
    kernels: NativeKernels, width: int, out: int, dtype: torch.dtype
) -> None:
    rows, weight = values(101, width), values(width, out, seed=1).to(dtype)
    product = kernels.linear(rows, weight)
    assert (product - rows @ weight.float()).abs().max() < 1e-4
    for count in COUNTS:
        assert torch.equal(kernels.linear(rows[7 : 7 + count], weight), product[7 : 7 + count])
    assert torch.equal(kernels.linear(rows, weight.float()), product), "a weight's type shows in the bits"


def test_a_nan_stays_in_its_row(kernels: NativeKernels) -> None:
    rows, gate_up, down = values(12, 32), values(32, 40, seed=1), values(20, 32, seed=2)
    clean = kernels.mlp(rows, gate_up, down)
    rows[3] = float("nan")
    spoilt = kernels.mlp(rows, gate_up, down)
    assert spoilt[3].isnan().all()
    others = [row for row in range(12) if row != 3]
    assert torch.equal(spoilt[others], clean[others])


def test_large_numbers_do_not_overflow_in_the_gate(kernels: NativeKernels) -> None:
    rows = torch.tensor([[300.0], [-300.0], [88.5], [0.0]])
    out = kernels.mlp(rows, torch.ones(1, 2), torch.ones(1, 1))
    assert torch.allclose(out, PLAIN.mlp(rows, torch.ones(1, 2), torch.ones(1, 1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_are_right_and_each_pair_is_as_if_alone(kernels: NativeKernels, dtype: torch.dtype) -> None:
    held = LayerExperts((2, 5, 7), values(3, 24, 22).to(dtype), values(3, 11, 24, seed=1).to(dtype))
    rows, generator = values(30, 24, seed=2), torch.Generator().manual_seed(3)
    pair_rows = torch.randint(0, 30, (80,), generator=generator)
    slots = torch.randint(0, 3, (80,), generator=generator)
    ours = kernels.grouped(rows, pair_rows, slots, held)
    wide = LayerExperts(held.experts, held.gate_up.float(), held.down.float())
    assert (ours - PLAIN.grouped(rows, pair_rows, slots, wide)).abs().max() < 1e-4
    for pair in (0, 17, 79):
        part = slice(pair, pair + 1)
        assert torch.equal(kernels.grouped(rows, pair_rows[part], slots[part], held), ours[part])


def test_gated_sums_have_the_bits_of_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, gates = values(9, 8, 37), values(9, 8, seed=1)
    ours = combine(outputs, gates)
    monkeypatch.setattr(experts, "library", lambda: None)
    assert torch.equal(ours, combine(outputs, gates))


def test_a_pair_of_a_row_that_is_not_there_is_refused(kernels: NativeKernels) -> None:
    held = LayerExperts((0,), values(1, 8, 8), values(1, 4, 8))
    for row, slot in ((2, 0), (-1, 0), (0, 1), (0, -1)):
        with pytest.raises(ModelError, match=f"pair 1 is of row {row} and slot {slot}"):
            kernels.grouped(values(2, 8), torch.tensor([0, row]), torch.tensor([0, slot]), held)


def test_a_weight_of_another_type_or_with_gaps_is_refused() -> None:
    for tensor in (values(4, 4).half(), values(4, 4).t()):
        with pytest.raises(TypeError, match="weight"):
            native.weight(tensor)


def test_narrow_and_wide_registers_give_the_same_bits(kernels: NativeKernels) -> None:
    """Two pods of a deployment on processors of two kinds compute the same."""
    folder = Path(native.__file__).parent
    builds = [folder / f"{kind}.so" for kind in ("x86_64_v3", "x86_64_v4")]
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not all(map(Path.exists, builds)):
        pytest.skip("this processor has one kind of registers only")
    narrow, wide = (NativeKernels(native.declared(ctypes.CDLL(str(path))), "invariant") for path in builds)
    rows, gate_up, down = values(23, 70), values(70, 90, seed=1), values(45, 70, seed=2).bfloat16()
    assert torch.equal(narrow.mlp(rows, gate_up, down), wide.mlp(rows, gate_up, down))


def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch, kernels: NativeKernels) -> None:
    monkeypatch.setattr(native, "sizeof", lambda _: 1)
    with pytest.raises(AttributeError, match="install the project again"):
        native.declared(kernels.library)


def test_weights_kept_in_bfloat16_give_the_bits_of_float32(tmp_path: Path) -> None:
    make_reference(tmp_path / "own").model.bfloat16().save_pretrained(tmp_path / "half")
    half, wide = serve(tmp_path / "half"), serve(tmp_path / "half", widens=False)
    assert half.transformer.weights.layers[0].output.dtype == torch.bfloat16
    assert wide.transformer.weights.layers[0].output.dtype == torch.float32
    ids = tokens(70)
    ours, theirs = (served.chunked(ids, [70], served.cache(), page_table(70)) for served in (half, wide))
    assert torch.equal(ours, theirs)
