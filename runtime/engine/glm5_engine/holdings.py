"""Gives pages to sequences and takes them back: growth, sharing, copy-on-write, preemption of the youngest."""

from collections.abc import Callable

from glm5_engine.pages import PageAllocator, pages_for
from glm5_engine.sequence import Sequence

CopyPage = Callable[[int, int], None]
"""Copies the rows of one page of the cache to another."""


class Holdings:
    """The pages of all sequences of one worker.

    Args:
        pages: the pool.
        copy_page: is called before a sequence writes to a page that others read too.
    """

    def __init__(self, pages: PageAllocator, copy_page: CopyPage) -> None:
        self._pages, self._copy_page = pages, copy_page

    @property
    def num_free(self) -> int:
        """Return the number of free pages."""
        return self._pages.num_free

    def missing(self, sequence: Sequence, end: int) -> int:
        """Return how many pages `sequence` lacks to write the rows from `sequence.cached` up to `end`."""
        return max(0, pages_for(end) - len(sequence.pages)) + (self._shared_index(sequence, end) is not None)

    def grow(self, sequence: Sequence, end: int) -> bool:
        """Give `sequence` what it lacks to write rows up to `end`, or change nothing and return False."""
        missing = self.missing(sequence, end)
        if not missing:
            return True
        got = self._pages.allocate(missing)
        if got is None:
            return False
        index = self._shared_index(sequence, end)
        if index is not None:
            self._own(sequence, index, got.pop())
        sequence.pages += got
        sequence.table = None
        return True

    def share(self, source: Sequence, target: Sequence, num_rows: int) -> None:
        """Let `target`, which holds nothing, read the first `num_rows` rows of `source`."""
        target.pages = source.pages[: pages_for(num_rows)]
        self._pages.share(target.pages)
        target.table, target.cached = None, num_rows

    def release(self, sequence: Sequence) -> None:
        """Take all pages of `sequence`; nothing of it is cached any more."""
        self._pages.release(sequence.pages)
        sequence.pages, sequence.table, sequence.cached = [], None, 0

    def _shared_index(self, sequence: Sequence, end: int) -> int | None:
        """Return the index of the page to write to that others hold too; later ones are never shared."""
        index = sequence.write_page
        if index is None or end <= sequence.cached or not self._pages.is_shared(sequence.pages[index]):
            return None
        return index

    def _own(self, sequence: Sequence, index: int, page: int) -> None:
        """Replace the shared page at `index` by a copy in `page`."""
        shared = sequence.pages[index]
        self._copy_page(shared, page)
        self._pages.release([shared])
        sequence.pages[index] = page
