"""The forward pass of an attention worker, as a generator that never waits."""

import torch
from torch import Tensor

from glm5_model.batch import Batch
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.config import ModelConfig
from glm5_model.errors import ModelError
from glm5_model.exchange import Collect, Dispatch, Forward
from glm5_model.kernels import Kernels
from glm5_model.kernels.native.kernels import NativeKernels
from glm5_model.layer_attention import Selection, Step
from glm5_model.layers import Layers
from glm5_model.layout import Layout, Splits, filled, lay_out
from glm5_model.native_layers import NativeLayers
from glm5_model.rope import RopeTable
from glm5_model.weights import AttentionWeights, MlpWeights, products

_SPLIT = 256
"""Cached rows whose shares are summed at once, where a selection is not shorter."""


class Transformer:
    """Everything of a model but the routed experts."""

    def __init__(self, config: ModelConfig, weights: AttentionWeights, kernels: Kernels) -> None:
        """Compute with `weights`, which must be on the kernels' device and of their dtype."""
        self.config, self.weights, self.kernels = config, weights, kernels
        self._layers = _layers_of(config, weights, kernels)
        embedding = weights.embedding
        split = min(_SPLIT, _padded(config.index_topk, PAGE_SIZE))
        self._splits = Splits(split, kernels.index_multiple(config.index_n_heads, config.index_head_dim))
        self._selected = _padded(config.index_topk, split)
        self._unseen = self._filling(embedding.device)
        self._rope = RopeTable(config.qk_rope_head_dim, config.rope_theta, embedding.dtype, embedding.device)
        self._least_rows = kernels.row_floor(products(weights))

    def forward(self, batch: Batch, cache: PagedCache) -> Forward:
        """Compute the rows of `batch`, write their cache entries, and return the wanted logits, [W, vocab] float32.

        Yields for each sparse layer a Dispatch, to be answered with None, and later a Collect, to be answered with
        the gated sum of the routed experts, [N, hidden]. A row sees the rows of its own sequence up to itself.

        Args:
            batch: new rows of any number of sequences.
            cache: with pages for all rows, the earlier rows filled.

        Raises:
            CacheError: a page table does not reach its sequence's last row.
        """
        logits = yield from self._forward(batch, cache)
        return logits.clone()  # a tensor that the caller may change in place

    @torch.inference_mode()
    def _forward(self, batch: Batch, cache: PagedCache) -> Forward:
        """Do what `forward` says; without the library's notes for gradients a pass takes a tenth less (measured)."""
        config, kernels = self.config, self.kernels
        layout = lay_out(batch, cache, config.index_topk, self._splits, self._least_rows)
        step = self._step(layout, cache)
        hidden = self.weights.embedding[layout.token_ids]  # [M, hidden]
        selection: Selection = []
        last, wanted = len(self.weights.layers) - 1, layout.wanted.shape[0]
        for index in range(last):
            hidden, selection = self._layers.attention(step, index, hidden, selection)
            hidden = yield from self._feed_forward(index, hidden, layout.count)
        # Of the last layer a row without logits needs no more than its cache entries.
        if not wanted:
            self._layers.write(step, last, hidden)
            return hidden.new_empty(0, self.weights.head.shape[1], dtype=torch.float32)
        hidden, _ = self._layers.attention(step, last, hidden, selection)
        rows = filled(hidden[layout.wanted], max(wanted, self._least_rows))
        hidden = yield from self._feed_forward(last, rows, wanted)
        final = kernels.rms_norm(hidden[:wanted], self.weights.final_norm, config.rms_norm_eps)
        return kernels.linear(final, self.weights.head).to(torch.float32)

    def _feed_forward(self, index: int, hidden: Tensor, count: int) -> Forward:
        """Return hidden [M, hidden] after the second half of a layer; rows after the first `count` are copies."""
        if isinstance(self.weights.layers[index].mlp, MlpWeights):
            return hidden + self._layers.mlp(index, self._layers.normed(index, hidden))
        normed, expert_ids, gates = self._layers.route(index, hidden)
        rows = normed[:count]
        yield Dispatch(index, rows, expert_ids[:count], gates[:count])
        added = self._layers.mlp(index, normed)
        routed = yield Collect(index)
        # Copied rows get what their row gets: they write to the same cache slots.
        return added.add_(filled(_checked(routed, index, rows), hidden.shape[0])).add_(hidden)

    def _step(self, layout: Layout, cache: PagedCache) -> Step:
        """Return what all layers of a pass share."""
        cos, sin = self._rope.at(layout.positions, layout.last_position)
        return Step(
            config=self.config,
            kernels=self.kernels,
            cache=cache,
            layout=layout,
            split=self._splits.attention,
            unseen=self._unseen,
            selected=self._selected,
            turn=(cos, sin),
            turn_heads=(cos[:, None], sin[:, None]),
            compiled=self._layers.prepared(layout, (cos, sin)),
        )

    def _filling(self, device: torch.device) -> Tensor | None:
        """Return which places of a selection only fill it up."""
        if self._selected == self.config.index_topk:
            return None
        return torch.arange(self._selected, device=device)[None] >= self.config.index_topk


def _layers_of(config: ModelConfig, weights: AttentionWeights, kernels: Kernels) -> Layers:
    """Return the layers that suit `kernels`."""
    if isinstance(kernels, NativeKernels):
        return NativeLayers(config, weights, kernels)
    return Layers(config, weights, kernels)


def _padded(count: int, multiple: int) -> int:
    """Return `count` rounded up to a multiple of `multiple`."""
    return -(-count // multiple) * multiple


def _checked(routed: Tensor | None, layer: int, rows: Tensor) -> Tensor:
    """Return what a driver sent for a Collect, if it fits.

    Raises:
        ModelError: nothing was sent, or another shape.
    """
    if routed is None or routed.shape != rows.shape:
        seen = "nothing" if routed is None else f"shape {list(routed.shape)}"
        raise ModelError(f"layer {layer}: the driver answered Collect with {seen}, wanted {list(rows.shape)}")
    return routed.to(device=rows.device, dtype=rows.dtype)
