"""Where the rows of a batch are: positions, cache slots, and groups that attend together.

Every row attends to cached rows in ascending order of position: to all its positions while there are at most
`index_topk` (a dense row), else to the selected ones (a sparse row). A row's bits depend on its own list only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.errors import CacheError

_PAGE_BITS = PAGE_SIZE.bit_length() - 1
_LARGEST_MASK = 1 << 20

Rows = Tensor | slice
"""Indices into the batch's rows; a slice where they follow each other."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that read the cache together: successive rows of one sequence, or single rows of several."""

    rows: Rows
    """R rows of the batch."""
    positions: Tensor
    """[R] int64."""
    pages: Tensor
    """[1 or R, L / PAGE_SIZE] int64: the pages of positions 0 to L - 1, then the first page again."""
    span: Tensor
    """[L] int64: 0, 1, 2, ..."""
    mask: Tensor | None
    """[R, L] bool: positions after each row's own; None where that would be large, then it is made part by part."""

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
    """Collects sequences one by one."""

    def __init__(self, cache: PagedCache, index_topk: int, splits: Splits) -> None:
        self.cache, self.index_topk = cache, index_topk
        self.splits = {True: splits.attention, False: splits.index}
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
        self.write_slots.append(self.cache.slots(sequence.page_table, start, rows))
        self.tokens.append(sequence.token_ids.to(self.cache.device))
        self.positions.append(torch.arange(start, end, device=self.cache.device))
        self._want(sequence.logits, rows)
        pages = sequence.page_table.to(device=self.cache.device, dtype=torch.int64)
        dense_end = min(max(self.index_topk, start), end)
        self._group(True, start, dense_end, self.count, pages)
        self._group(False, dense_end, end, self.count + dense_end - start, pages)
        self.count += rows
        self.last = max(self.last, end - 1)

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
            token_ids=torch.cat(self.tokens + [self.tokens[-1][-1:]] * missing),
            positions=torch.cat(self.positions + [self.positions[-1][-1:]] * missing),
            last_position=self.last,
            write_slots=torch.cat(self.write_slots + [self.write_slots[-1][-1:]] * missing),
            dense=tuple(self.groups[True]),
            sparse=tuple(self.groups[False]),
            wanted=torch.tensor(self.wanted, dtype=torch.int64, device=self.cache.device),
        )

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
            self.groups[dense].append(self._made(rows, list(range(begin, end)), line[None]))

    def _together(self, dense: bool, singles: list[tuple[int, int, Tensor]]) -> Group:
        """Return single rows of several sequences as one group."""
        first, count = singles[0][0], len(singles)
        numbers = [row for row, _, _ in singles]
        follow = numbers == list(range(first, first + count))
        rows: Rows = slice(first, first + count) if follow else torch.tensor(numbers, device=self.cache.device)
        positions = [position for _, position, _ in singles]
        length = self._length(dense, max(positions) + 1)
        lines = [self._line(pages, position + 1, length) for _, position, pages in singles]
        return self._made(rows, positions, torch.stack(lines))

    def _made(self, rows: Rows, positions: list[int], pages: Tensor) -> Group:
        """Return a group."""
        device = self.cache.device
        span = torch.arange(pages.shape[1] * PAGE_SIZE, device=device)
        own = torch.tensor(positions, device=device)
        mask = span > own[:, None] if own.shape[0] * span.shape[0] <= _LARGEST_MASK else None
        return Group(rows, own, pages, span, mask)

    def _length(self, dense: bool, end: int) -> int:
        """Return `end` rounded up to what is taken at once."""
        split = self.splits[dense]
        return -(-end // split) * split

    def _line(self, pages: Tensor, end: int, length: int) -> Tensor:
        """Return the pages of positions before `end`, filled up with the first one, which holds finite numbers."""
        used = pages[: -(-end // PAGE_SIZE)]
        missing = length // PAGE_SIZE - used.shape[0]
        return torch.cat([used, used[:1].expand(missing)]) if missing else used
