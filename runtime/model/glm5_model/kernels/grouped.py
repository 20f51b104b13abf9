"""The grouped product: rows of each expert through that expert's weights, one library call per expert and product."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from glm5_model.kernels.native.library import Weight, weight


@dataclass(frozen=True)
class LayerExperts:
    """Some experts of one layer."""

    experts: tuple[int, ...]
    """Logical ids, ascending; slot i of the tensors is experts[i]."""
    gate_up: Tensor
    """[held, hidden, 2 * width]: gate first."""
    down: Tensor
    """[held, width, hidden]."""
    views: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = field(init=False, repr=False)
    """Each expert's `gate_up` and `down`, made once: taking a view anew costs as much as a small product."""

    def __post_init__(self) -> None:
        """Make the views."""
        object.__setattr__(self, "views", (self.gate_up.unbind(0), self.down.unbind(0)))

    @cached_property
    def compiled(self) -> tuple[Weight, Weight]:
        """Return `gate_up` and `down` as the compiled library wants them."""
        return weight(self.gate_up), weight(self.down)


class Products(Protocol):
    """What is needed of kernels."""

    def linear(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, in] times weight [in, out], [N, out]."""

    def silu(self, values: Tensor) -> Tensor:
        """Return x * sigmoid(x)."""

    def row_floor(self, weights: list[Tensor]) -> int:
        """Return the rows from which no product with one of `weights` needs padding."""


def grouped_product(rows: Tensor, pair_rows: Tensor, slots: Tensor, held: LayerExperts, kernels: Products) -> Tensor:
    """Return one unweighted output for each pair of a row and an expert.

    Args:
        rows: [n, hidden].
        pair_rows: [P] int64, indices into `rows`.
        slots: [P] int64, indices into `held`.
        held: the experts.
        kernels: how to multiply.

    Returns:
        [P, hidden] in the dtype of `rows`, in the order of the pairs.
    """
    by_slot: dict[int, list[int]] = {}
    for pair, slot in enumerate(slots.tolist()):
        by_slot.setdefault(slot, []).append(pair)
    if not by_slot:
        return rows.new_empty(0, rows.shape[1])
    gate_up, down = held.views
    order, sizes, places = _filled_groups(by_slot.values(), kernels.row_floor([gate_up[0], down[0]]))
    groups = rows[pair_rows[order]].split_with_sizes(sizes)  # each [group, hidden]
    inner = torch.cat([kernels.linear(x, gate_up[s]) for x, s in zip(groups, by_slot, strict=True)])
    gate, up = inner.chunk(2, dim=-1)
    active = (kernels.silu(gate) * up).split_with_sizes(sizes)  # each [group, width]
    outputs = torch.cat([kernels.linear(x, down[s]) for x, s in zip(active, by_slot, strict=True)])
    return outputs[places]


def _filled_groups(groups: Iterable[list[int]], least: int) -> tuple[list[int], list[int], list[int]]:
    """Return pairs in the order of their groups, each group filled up to `least` with its last pair.

    Filling up here, once, is cheaper than in each product.

    Returns:
        the pairs in order, the groups' sizes, and for each pair its place in that order.
    """
    order: list[int] = []
    sizes: list[int] = []
    places: dict[int, int] = {}
    for pairs in groups:
        for pair in pairs:
            places[pair] = len(order)
            order.append(pair)
        missing = max(0, least - len(pairs))
        order += pairs[-1:] * missing
        sizes.append(len(pairs) + missing)
    return order, sizes, [places[pair] for pair in range(len(places))]
