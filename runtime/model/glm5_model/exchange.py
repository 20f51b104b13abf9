"""What a forward pass asks of whoever drives it: rows out to the experts, their sum back."""

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Rows of one sparse layer for the routed experts; the driver sends None back and lets the pass go on."""

    layer: int
    rows: Tensor
    """[N, hidden]."""
    expert_ids: Tensor
    """[N, k] int64, logical ids, ascending in each row."""
    gates: Tensor
    """[N, k] float32."""


@dataclass(frozen=True, slots=True)
class Collect:
    """The wish for the sums of the layer dispatched last; the driver sends [N, hidden] in the rows' dtype back."""

    layer: int


Forward = Generator[Dispatch | Collect, Tensor | None, Tensor]
"""A forward pass: yields Dispatch and Collect in turn, returns logits."""
