"""Who owns which page of the cache. Pure bookkeeping: the rows themselves live in `glm5_model`'s PagedCache."""

from collections.abc import Iterable

PAGE_SIZE = 64
"""Tokens of one page; equal to glm5_model.PAGE_SIZE, which a test compares."""


class PageError(Exception):
    """A page was shared or released that nobody holds: a fault of the caller, never of the load."""


def pages_for(num_tokens: int) -> int:
    """Return how many pages hold `num_tokens` rows."""
    return -(-num_tokens // PAGE_SIZE)


class PageAllocator:
    """Counts the holders of each page; a page without holders is free.

    Args:
        num_pages: size of the pool.
    """

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self._free = list(range(num_pages - 1, -1, -1))  # a stack: the page freed last is warm in the cache
        self._holders = [0] * num_pages

    @property
    def num_free(self) -> int:
        """Return the number of free pages."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Return the number of pages with at least one holder."""
        return self.num_pages - len(self._free)

    def allocate(self, count: int) -> list[int] | None:
        """Return `count` pages with one holder each, or None and change nothing where too few are free."""
        if count > len(self._free):
            return None
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._holders[page] = 1
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """Add one holder to each of `pages`.

        Raises:
            PageError: a page has no holder.
        """
        for page in pages:
            if self._holders[page] < 1:
                raise PageError(f"page {page} is free and cannot be shared; it was released too early")
            self._holders[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """Take one holder from each of `pages`; pages without holders become free.

        Raises:
            PageError: a page has no holder.
        """
        for page in pages:
            if self._holders[page] < 1:
                raise PageError(f"page {page} is free and cannot be released again")
            self._holders[page] -= 1
            if self._holders[page] == 0:
                self._free.append(page)

    def is_shared(self, page: int) -> bool:
        """Return whether more than one sequence holds `page`: then a write needs a copy first."""
        return self._holders[page] > 1
