"""Who holds which expert, and who of several holders gets the rows. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from glm5.v1 import peer_pb2
from glm5_model.kernels.native.library import library
from glm5_wire.tensors.messages import address

Positions = npt.NDArray[np.int64]
"""Indices into the N * k pairs of a dispatch, ascending: pair p is row p // k."""
MAX_CLASSES = 256
"""The compiled library knows no more."""
NOBODY = 0
"""The class of experts without a holder."""


class Holder(Protocol):
    """A shard."""

    @property
    def holdings(self) -> Sequence[peer_pb2.ExpertRange]:
        """Return what it holds."""


H = TypeVar("H", bound=Holder)


class Routes(Generic[H]):
    """Maps (layer, expert) to a class of experts that have the same holders.

    Args:
        holders: all shards, in a fixed order.
    """

    def __init__(self, holders: Sequence[H]) -> None:
        self.classes: list[tuple[H, ...]] = [()]
        """Holders of each class; class 0 has none."""
        self._numbers: dict[tuple[int, ...], int] = {(): NOBODY}
        self._table: dict[int, npt.NDArray[np.int64]] = {}
        for layer, lists in _lists(holders).items():
            self._table[layer] = np.array([self._class(tuple(held), holders) for held in lists], dtype=np.int64)
        self._compiled = library() if len(self.classes) <= MAX_CLASSES else None
        self._bytes = {layer: table.astype(np.uint8) for layer, table in self._table.items()}

    def _class(self, indices: tuple[int, ...], holders: Sequence[H]) -> int:
        if indices not in self._numbers:
            self._numbers[indices] = len(self.classes)
            self.classes.append(tuple(holders[index] for index in indices))
        return self._numbers[indices]

    def of(self, layer: int, experts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the class of each expert."""
        table = self._table.get(layer)
        if table is None:
            return np.full(len(experts), NOBODY)
        known = np.minimum(experts, len(table) - 1)
        classes: npt.NDArray[np.int64] = np.where(experts < len(table), table[known], NOBODY)
        return classes

    def split(self, layer: int, experts: Tensor) -> Iterator[tuple[int, Positions, int]] | None:
        """Return the pairs of `experts` [N, k] by class: its number, the pairs ascending, how many rows they are.

        None where an expert has no holder, or without the compiled library.
        """
        table = self._bytes.get(layer)
        if table is None or self._compiled is None:
            return None
        rows, k = experts.shape
        positions, counts = np.empty(rows * k, np.int64), np.empty((2, len(self.classes)), np.int64)
        outs = address(positions), address(counts), address(counts) + counts.strides[0]
        if not self._compiled.glm5_split_pairs(
            experts.data_ptr(), rows, k, address(table), len(table), len(self.classes), *outs
        ):
            return None
        return _cut(positions, *counts.tolist())

    def missing(self, layers: Iterable[int], num_experts: int) -> dict[int, list[int]]:
        """Return the experts without a holder, by layer; layers that are whole are left out."""
        every = np.arange(num_experts)
        found = {layer: every[self.of(layer, every) == NOBODY].tolist() for layer in layers}
        return {layer: experts for layer, experts in found.items() if experts}


def _cut(positions: Positions, counts: list[int], rows: list[int]) -> Iterator[tuple[int, Positions, int]]:
    """Return (class, its positions, its rows) for each class that has any."""
    first = 0
    for number, count in enumerate(counts):
        if count:
            yield number, positions[first : first + count], rows[number]
            first += count


def _lists(holders: Sequence[H]) -> dict[int, list[list[int]]]:
    """Return for each layer and expert the indices of its holders."""
    lists: dict[int, list[list[int]]] = {}
    for index, holder in enumerate(holders):
        for held in holder.holdings:
            experts = lists.setdefault(held.layer, [])
            experts.extend([] for _ in range(held.first + held.count - len(experts)))
            for expert in range(held.first, held.first + held.count):
                experts[expert].append(index)
    return lists


def in_words(missing: dict[int, list[int]]) -> str:
    """Return what is missing, for people: `experts 64-127 of layers 3-7`; empty where nothing is."""
    same: dict[str, list[int]] = {}
    for layer, experts in missing.items():
        same.setdefault(runs(experts), []).append(layer)
    return ", ".join(f"experts {experts} of layers {runs(layers)}" for experts, layers in same.items())


def runs(numbers: list[int]) -> str:
    """Return ascending numbers as runs: `0-3,7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in parts)
