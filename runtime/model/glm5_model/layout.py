"""Where the rows of a batch are: positions, cache slots, and groups that attend together.

Every row attends to cached rows in ascending order of position: to all its positions while there are at most
`index_topk` (a dense row), else to the selected ones (a sparse row). A row's bits depend on its own list only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.errors import CacheError

_PAGE_BITS = PAGE_SIZE.bit_length() - 1
_LARGEST_MASK = 1 << 20

Rows = Tensor | slice
"""Indices into the batch's rows; a slice where they follow each other."""


@dataclass(frozen=True)
class Group:
    """Rows that read the cache together: successive rows of one sequence, or single rows of several."""

    rows: Rows
    """R rows of the batch."""
    positions: Tensor
    """[R] int64."""
    pages: Tensor
    """[1 or R, L / PAGE_SIZE] int64: the pages of positions 0 to L - 1, then the first page again."""

    @cached_property
    def span(self) -> Tensor:
        """Return 0, 1, 2, ... [L] int64."""
        return torch.arange(self.pages.shape[1] * PAGE_SIZE, device=self.pages.device)

    @cached_property
    def mask(self) -> Tensor | None:
        """Return the positions after each row's own, [R, L] bool; None where that is large: it is made by parts."""
        small = self.positions.shape[0] * self.span.shape[0] <= _LARGEST_MASK
        return self.span > self.positions[:, None] if small else None

    @cached_property
    def numbers(self) -> Tensor:
        """Return `rows` as [R] int64."""
        return torch.arange(self.rows.start, self.rows.stop) if isinstance(self.rows, slice) else self.rows

    def slots(self, part: slice, positions: Tensor) -> Tensor:
        """Return the cache slots of `positions` [part, n] of the group's rows in `part`, [part, n] int64."""
        pages = positions >> _PAGE_BITS
        held = self.pages[0][pages] if self.pages.shape[0] == 1 else self.pages[part].gather(1, pages)
        return held.mul_(PAGE_SIZE).add_(positions & (PAGE_SIZE - 1))

    def later(self, part: slice) -> Tensor:
        """Return for the group's rows in `part` which of the L positions come after the row's own, [part, L] bool."""
        return self.mask[part] if self.mask is not None else self.span > self.positions[part, None]


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch, laid out. Token ids and positions may have rows more than the batch, copies of the last one."""

    count: int
    """N, the rows of the batch."""
    token_ids: Tensor
    """[M at least N] int64."""
    positions: Tensor
    """[M] int64."""
    last_position: int
    write_slots: Tensor
    """[M] int64, where each row's cache entries go; a copied row goes where the row itself goes."""
    dense: tuple[Group, ...]
    """Rows that see all their positions."""
    sparse: tuple[Group, ...]
    """Rows that see a selection."""
    wanted: Tensor
    """[W] int64, rows whose logits come back."""


@dataclass(frozen=True, slots=True)
class Splits:
    """How many cached rows are taken at once; both are multiples of the page size."""

    attention: int
    """Sums over so many rows are added one after the other."""
    index: int
    """Keys are scored in multiples of this."""


def lay_out(batch: Batch, cache: PagedCache, index_topk: int, splits: Splits, least_rows: int) -> Layout:
    """Return the layout of `batch`, with at least `least_rows` rows.

    Raises:
        CacheError: there is no sequence, one has no rows, or its page table does not reach its last row.
    """
    builder = _Builder(cache, index_topk, splits)
    for sequence in batch.sequences:
        builder.add(sequence)
    return builder.finish(least_rows)


def filled(rows: Tensor, count: int) -> Tensor:
    """Return `rows` [N, ...] with the last one repeated until there are `count`."""
    missing = count - rows.shape[0]
    if rows.shape[0] == 1:
        return rows.expand(count, *rows.shape[1:])
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


class _Builder:
    """Collects sequences one by one.

    What a decode step has, single rows, stays plain numbers until the end: a tensor for each costs more than the row.
    """

    def __init__(self, cache: PagedCache, index_topk: int, splits: Splits) -> None:
        self.cache, self.index_topk = cache, index_topk
        self.splits = {True: splits.attention, False: splits.index}
        self.count = 0
        self.last = 0
        self.tokens: list[Tensor | int] = []
        self.positions: list[Tensor | int] = []
        self.write_slots: list[Tensor | int] = []
        self.wanted: list[int] = []
        self.groups: dict[bool, list[Group]] = {True: [], False: []}
        self.singles: dict[bool, list[tuple[int, int, Tensor]]] = {True: [], False: []}

    def add(self, sequence: SequenceRows) -> None:
        """Take one sequence's rows."""
        rows = sequence.token_ids.shape[0]
        if rows == 0:
            raise CacheError("a sequence of the batch has no rows; leave it out")
        if rows == 1:
            self._add_single(sequence)
        else:
            self._add_many(sequence, rows)
        self._want(sequence.logits, rows)
        self.count += rows
        self.last = max(self.last, sequence.start + rows - 1)

    def _add_single(self, sequence: SequenceRows) -> None:
        position = sequence.start
        self.tokens.append(int(sequence.token_ids))
        self.positions.append(position)
        self.write_slots.append(self.cache.slot(sequence.page_table, position))
        self.singles[position < self.index_topk].append((self.count, position, sequence.page_table))

    def _add_many(self, sequence: SequenceRows, rows: int) -> None:
        start, end = sequence.start, sequence.start + rows
        self.write_slots.append(self.cache.slots(sequence.page_table, start, rows))
        self.tokens.append(sequence.token_ids.to(self.cache.device))
        self.positions.append(torch.arange(start, end, device=self.cache.device))
        dense_end = min(max(self.index_topk, start), end)
        self._group(True, start, dense_end, self.count, sequence.page_table)
        self._group(False, dense_end, end, self.count + dense_end - start, sequence.page_table)

    def finish(self, least_rows: int) -> Layout:
        """Return what was collected."""
        if not self.tokens:
            raise CacheError("the batch has no sequences; do not start a pass for it")
        for dense, singles in self.singles.items():
            if singles:
                self.groups[dense].append(self._together(dense, singles))
        missing = max(0, least_rows - self.count)
        return Layout(
            count=self.count,
            token_ids=self._joined(self.tokens, missing),
            positions=self._joined(self.positions, missing),
            last_position=self.last,
            write_slots=self._joined(self.write_slots, missing),
            dense=tuple(self.groups[True]),
            sparse=tuple(self.groups[False]),
            wanted=torch.tensor(self.wanted, dtype=torch.int64, device=self.cache.device),
        )

    def _joined(self, parts: list[Tensor | int], missing: int) -> Tensor:
        """Return all numbers one after the other, the last one `missing` times more, int64."""
        device = self.cache.device
        numbers = [part for part in parts if isinstance(part, int)]
        if len(numbers) == len(parts):
            return torch.tensor(numbers + numbers[-1:] * missing, device=device)
        tensors = [part if isinstance(part, Tensor) else torch.tensor([part], device=device) for part in parts]
        return torch.cat(tensors + [tensors[-1][-1:]] * missing)

    def _want(self, logits: str, rows: int) -> None:
        """Note which rows' logits come back."""
        first = {"none": rows, "last": rows - 1, "all": 0}[logits]
        self.wanted += range(self.count + first, self.count + rows)

    def _group(self, dense: bool, begin: int, end: int, first_row: int, pages: Tensor) -> None:
        """Note the rows of positions `begin` to before `end`, which start at `first_row` of the batch."""
        if end - begin == 1:
            self.singles[dense].append((first_row, begin, pages))
        elif end > begin:
            line = self._line(pages, end, self._length(dense, end))
            rows = slice(first_row, first_row + end - begin)
            self.groups[dense].append(self._made(rows, range(begin, end), [line]))

    def _together(self, dense: bool, singles: list[tuple[int, int, Tensor]]) -> Group:
        """Return single rows of several sequences as one group."""
        first, count = singles[0][0], len(singles)
        numbers = [row for row, _, _ in singles]
        follow = numbers == list(range(first, first + count))
        rows: Rows = slice(first, first + count) if follow else torch.tensor(numbers, device=self.cache.device)
        positions = [position for _, position, _ in singles]
        length = self._length(dense, max(positions) + 1)
        lines = [self._line(pages, position + 1, length) for _, position, pages in singles]
        return self._made(rows, positions, lines)

    def _made(self, rows: Rows, positions: Sequence[int], lines: list[list[int]]) -> Group:
        """Return a group."""
        device = self.cache.device
        return Group(rows, torch.tensor(positions, device=device), torch.tensor(lines, device=device))

    def _length(self, dense: bool, end: int) -> int:
        """Return `end` rounded up to what is taken at once."""
        split = self.splits[dense]
        return -(-end // split) * split

    def _line(self, pages: Tensor, end: int, length: int) -> list[int]:
        """Return the pages of positions before `end`, filled up with the first one, which holds finite numbers."""
        used: list[int] = pages[: -(-end // PAGE_SIZE)].tolist()
        return used + used[:1] * (length // PAGE_SIZE - len(used))
