"""Where the rows of a batch are: positions, cache slots, and groups that attend together.

Every row attends to a list of cache slots in ascending order of position: all its positions while there are at most
`index_topk` (a dense row), else the selected ones (a sparse row). A row's bits depend on its own list only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.errors import CacheError

SPLIT = 256
"""Cached rows of one attention split at most; sums over splits are added one after the other."""


def split_size(index_topk: int) -> int:
    """Return the rows of a split: `SPLIT`, less where the whole selection is shorter."""
    return min(SPLIT, padded(index_topk, PAGE_SIZE))


def padded(count: int, multiple: int) -> int:
    """Return `count` rounded up to a multiple of `multiple`."""
    return -(-count // multiple) * multiple


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that read the cache together: successive rows of one sequence, or single rows of several."""

    rows: Tensor
    """[R] int64, indices into the batch's rows."""
    positions: Tensor
    """[R] int64."""
    slots: Tensor
    """[1 or R, L] int64, slots of positions 0 to L - 1, L a multiple of the split; beyond the end that of position 0."""

    def part(self, first: int, last: int) -> "Group":
        """Return the rows from `first` to before `last`, with slots no longer than they need."""
        positions = self.positions[first:last]
        slots = self.slots if self.slots.shape[0] == 1 else self.slots[first:last]
        return Group(self.rows[first:last], positions, slots)


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch, laid out."""

    token_ids: Tensor
    """[N] int64."""
    positions: Tensor
    """[N] int64."""
    last_position: int
    write_slots: Tensor
    """[N] int64, where each row's cache entries go."""
    dense: tuple[Group, ...]
    """Rows that see all their positions."""
    sparse: tuple[Group, ...]
    """Rows that see a selection."""
    wanted: Tensor
    """[W] int64, rows whose logits come back."""


def lay_out(batch: Batch, cache: PagedCache, index_topk: int) -> Layout:
    """Return the layout of `batch`.

    Raises:
        CacheError: a sequence has no rows, or its page table does not reach its last row.
    """
    split = split_size(index_topk)
    builder = _Builder(cache, split, index_topk)
    for sequence in batch.sequences:
        builder.add(sequence)
    return builder.finish()


class _Builder:
    """Collects sequences one by one."""

    def __init__(self, cache: PagedCache, split: int, index_topk: int) -> None:
        self.cache, self.split, self.index_topk = cache, split, index_topk
        self.count = 0
        self.last = 0
        self.tokens: list[Tensor] = []
        self.positions: list[Tensor] = []
        self.write_slots: list[Tensor] = []
        self.wanted: list[int] = []
        self.groups: dict[bool, list[Group]] = {True: [], False: []}
        self.singles: dict[bool, list[tuple[int, int, Tensor]]] = {True: [], False: []}

    def add(self, sequence: SequenceRows) -> None:
        """Take one sequence's rows."""
        rows, start = sequence.token_ids.shape[0], sequence.start
        if rows == 0:
            raise CacheError("a sequence of the batch has no rows; leave it out")
        end = start + rows
        slots = self.cache.slots(sequence.page_table, 0, end)
        self.tokens.append(sequence.token_ids.to(self.cache.device))
        self.positions.append(torch.arange(start, end, device=self.cache.device))
        self.write_slots.append(slots[start:])
        self._want(sequence.logits, rows)
        dense_end = min(max(self.index_topk, start), end)
        self._group(True, start, dense_end, self.count, slots)
        self._group(False, dense_end, end, self.count + dense_end - start, slots)
        self.count += rows
        self.last = max(self.last, end - 1)

    def finish(self) -> Layout:
        """Return what was collected."""
        for dense, singles in self.singles.items():
            if singles:
                self.groups[dense].append(self._together(singles))
        if not self.tokens:
            raise CacheError("the batch has no sequences; do not start a pass for it")
        return Layout(
            token_ids=torch.cat(self.tokens),
            positions=torch.cat(self.positions),
            last_position=self.last,
            write_slots=torch.cat(self.write_slots),
            dense=tuple(self.groups[True]),
            sparse=tuple(self.groups[False]),
            wanted=torch.tensor(self.wanted, dtype=torch.int64, device=self.cache.device),
        )

    def _want(self, logits: str, rows: int) -> None:
        """Note which rows' logits come back."""
        first = {"none": rows, "last": rows - 1, "all": 0}[logits]
        self.wanted += range(self.count + first, self.count + rows)

    def _group(self, dense: bool, begin: int, end: int, first_row: int, slots: Tensor) -> None:
        """Note the rows of positions `begin` to before `end`, which start at `first_row` of the batch."""
        if begin >= end:
            return
        if end - begin == 1:
            self.singles[dense].append((first_row, begin, slots[:end]))
            return
        device = self.cache.device
        rows = torch.arange(first_row, first_row + end - begin, device=device)
        line = self._line(slots[:end], padded(end, self.split))
        self.groups[dense].append(Group(rows, torch.arange(begin, end, device=device), line[None]))

    def _together(self, singles: list[tuple[int, int, Tensor]]) -> Group:
        """Return single rows of several sequences as one group."""
        device = self.cache.device
        length = padded(max(position for _, position, _ in singles) + 1, self.split)
        return Group(
            rows=torch.tensor([row for row, _, _ in singles], device=device),
            positions=torch.tensor([position for _, position, _ in singles], device=device),
            slots=torch.stack([self._line(slots, length) for _, _, slots in singles]),
        )

    def _line(self, slots: Tensor, length: int) -> Tensor:
        """Return `slots` filled up with the first one, which holds finite numbers."""
        line = slots.new_full((length,), int(slots[0]))
        line[: slots.shape[0]] = slots
        return line
