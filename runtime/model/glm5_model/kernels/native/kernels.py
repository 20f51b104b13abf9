"""Products of the compiled library."""

import ctypes
import hashlib

import torch
from torch import Tensor

from glm5_model.errors import ModelError
from glm5_model.kernels.grouped import LayerExperts
from glm5_model.kernels.invariant import InvariantKernels
from glm5_model.kernels.native.library import weight
from glm5_model.kernels.probe import probe_values


class NativeKernels(InvariantKernels):
    """Invariant by construction: every sum has one order. What the library has not is computed as without it."""

    widens = True

    def __init__(self, library: ctypes.CDLL, numerics: str) -> None:
        """Compute in float32 with `library`."""
        super().__init__(torch.device("cpu"), torch.float32)
        self.library, self.numerics = library, numerics

    def probes(self) -> list[str]:
        """Return the bits of one product."""
        product = self.linear(probe_values(9, 192, dtype=self.dtype, device=self.device), _probe_weight())
        return ["native", hashlib.sha256(product.numpy().tobytes()).hexdigest()]

    def row_floor(self, weights: list[Tensor]) -> int:
        """Return 1: no product needs padding."""
        return 1

    def linear(self, rows: Tensor, weight_: Tensor) -> Tensor:
        """Return rows [N, in] times weight [in, out], [N, out]."""
        rows = rows if rows.stride(-1) == 1 else rows.contiguous()
        out = rows.new_empty(rows.shape[0], weight_.shape[1])
        self.library.glm5_linear(weight(weight_), rows.data_ptr(), rows.stride(0), out.data_ptr(), rows.shape[0])
        return out

    def rms_norm(self, rows: Tensor, weight_: Tensor, eps: float) -> Tensor:
        """Return rows [N, d] normalised and multiplied by `weight_` [d]."""
        rows = rows.contiguous()
        out = torch.empty_like(rows)
        width, count = rows.shape[-1], rows.shape[:-1].numel()
        self.library.glm5_rms_norm(rows.data_ptr(), weight_.data_ptr(), eps, width, count, out.data_ptr())
        return out

    def mlp(self, rows: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        """Return down(silu(gate(x)) * up(x)), [N, hidden]."""
        rows = rows.contiguous()
        out = torch.empty_like(rows)
        self.library.glm5_mlp(weight(gate_up), weight(down), rows.data_ptr(), rows.shape[0], out.data_ptr())
        return out

    def grouped(self, rows: Tensor, pair_rows: Tensor, slots: Tensor, held: LayerExperts) -> Tensor:
        """Return one output for each pair of a row and a slot, [P, hidden]."""
        rows, pair_rows, slots = rows.contiguous(), pair_rows.contiguous(), slots.contiguous()
        out = rows.new_empty(slots.shape[0], held.down.shape[2])
        stray = self.library.glm5_experts(
            *held.compiled,
            len(held.experts),
            rows.data_ptr(),
            rows.shape[0],
            pair_rows.data_ptr(),
            slots.data_ptr(),
            slots.shape[0],
            out.data_ptr(),
        )
        if stray >= 0:
            why = f"pair {stray} is of row {int(pair_rows[stray])} and slot {int(slots[stray])}"
            raise ModelError(f"{why}, there are {len(rows)} rows and {len(held.experts)} experts; a bug of the caller")
        return out


def _probe_weight() -> Tensor:
    """Return a weight on which processors that compute differently would differ."""
    return probe_values(192, 256, dtype=torch.float32, device=torch.device("cpu"), seed=6)
