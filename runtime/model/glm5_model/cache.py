"""The paged cache of one worker: latent rows of every layer, index keys of the full layers, one page table for both."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glm5_model.config import ModelConfig
from glm5_model.errors import CacheError

PAGE_SIZE = 64
"""Tokens of one page."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One of the tensors that make up a token's cached state."""

    layer: int
    kind: Literal["latent", "index_keys"]
    width: int
    """Numbers per token. Latent rows are [kv_lora_rank after its norm | rotated key, even parts then odd parts]."""


class PagedCache:
    """A pool of pages of `PAGE_SIZE` tokens; who owns which page is the caller's business."""

    def __init__(
        self, config: ModelConfig, num_pages: int, dtype: torch.dtype, device: str | torch.device = "cpu"
    ) -> None:
        """Make room for `num_pages` pages of every entry, filled with zeros."""
        latent = [CacheEntry(i, "latent", config.latent_width) for i in range(config.num_layers)]
        keys = [CacheEntry(i, "index_keys", config.index_head_dim) for i in config.full_layers]
        self.num_pages = num_pages
        self.dtype = dtype
        self.device = torch.device(device)
        self.entries: tuple[CacheEntry, ...] = (*latent, *keys)
        # Zeros, not garbage: masked positions are read too, and zero times NaN would be NaN.
        self._rows = {
            (entry.layer, entry.kind): torch.zeros(num_pages * PAGE_SIZE, entry.width, dtype=dtype, device=device)
            for entry in self.entries
        }

    @property
    def bytes_per_token(self) -> int:
        """Return the bytes that one token takes in all entries together."""
        return sum(entry.width for entry in self.entries) * self.dtype.itemsize

    def latent(self, layer: int) -> Tensor:
        """Return the latent rows of `layer`, [num_pages * PAGE_SIZE, width], the storage itself."""
        return self._rows[layer, "latent"]

    def index_keys(self, layer: int) -> Tensor:
        """Return the index keys of full layer `layer`, [num_pages * PAGE_SIZE, width], the storage itself."""
        return self._rows[layer, "index_keys"]

    def read(self, entry: CacheEntry, slots: Tensor) -> Tensor:
        """Return a copy of the rows in `slots` [count] int64, [count, width].

        Raises:
            CacheError: there is no such entry here.
        """
        return self._storage(entry).index_select(0, slots)

    def write(self, entry: CacheEntry, slots: Tensor, rows: Tensor) -> None:
        """Store `rows` [count, width] in `slots` [count] int64.

        Raises:
            CacheError: there is no such entry here, or it has another width.
        """
        if rows.shape != (slots.shape[0], entry.width):
            raise CacheError(
                f"layer {entry.layer} {entry.kind}: rows of shape {list(rows.shape)} where [{slots.shape[0]}, "
                f"{entry.width}] belongs; both sides must serve the same model"
            )
        self._storage(entry).index_copy_(0, slots, rows.to(device=self.device, dtype=self.dtype))

    def copy_page(self, source: int, target: int) -> None:
        """Copy page `source` over page `target` in every entry.

        Raises:
            CacheError: one of them is not in the pool.
        """
        for page in (source, target):
            if not 0 <= page < self.num_pages:
                raise CacheError(
                    f"page {page} is not one of the pool's {self.num_pages}; this is a bug of the allocator"
                )
        for rows in self._rows.values():
            pages = rows.view(self.num_pages, PAGE_SIZE, -1)
            pages[target] = pages[source]

    def slot(self, page_table: Tensor, position: int) -> int:
        """Return the index of the row at `position`.

        Raises:
            CacheError: the page table or the pool does not reach that far.
        """
        if 0 <= position < page_table.shape[0] * PAGE_SIZE:
            page = int(page_table[position // PAGE_SIZE])
            if 0 <= page < self.num_pages:
                return page * PAGE_SIZE + position % PAGE_SIZE
        return int(self.slots(page_table, position, 1))  # raises

    def slots(self, page_table: Tensor, start: int, count: int) -> Tensor:
        """Return the indices of `count` rows from position `start` on, [count] int64.

        Raises:
            CacheError: the page table or the pool does not reach that far.
        """
        end = start + count
        if start < 0 or end > page_table.shape[0] * PAGE_SIZE:
            raise CacheError(
                f"positions {start} to {end - 1} need {-(-end // PAGE_SIZE)} pages, the page table has "
                f"{page_table.shape[0]}; allocate pages before the forward pass"
            )
        first, last = start // PAGE_SIZE, -(-end // PAGE_SIZE)
        pages = page_table[first:last].to(device=self.device, dtype=torch.int64)
        if pages.numel() and not 0 <= int(pages.min()) <= int(pages.max()) < self.num_pages:
            raise CacheError(f"page table names pages outside 0 to {self.num_pages - 1}: {pages.tolist()[:8]}")
        offsets = torch.arange(PAGE_SIZE, device=self.device)
        rows = (pages[:, None] * PAGE_SIZE + offsets).flatten()  # [pages * PAGE_SIZE]
        return rows[start - first * PAGE_SIZE : end - first * PAGE_SIZE]

    def _storage(self, entry: CacheEntry) -> Tensor:
        """Return the tensor behind `entry`."""
        try:
            return self._rows[entry.layer, entry.kind]
        except KeyError:
            raise CacheError(
                f"layer {entry.layer} has no {entry.kind} here; both sides must serve the same model"
            ) from None
