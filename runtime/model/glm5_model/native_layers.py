"""Layers computed by the compiled library: a call for each half of a layer instead of hundreds of small ones."""

import ctypes

import torch
from torch import Tensor

from glm5_model.config import ModelConfig
from glm5_model.kernels.native import library as native
from glm5_model.kernels.native.kernels import NativeKernels
from glm5_model.layer_attention import INDEX_NORM_EPS, Selection, Step, select_rows
from glm5_model.layers import Layers
from glm5_model.layout import Group, Layout
from glm5_model.weights import AttentionWeights, LayerWeights, MlpWeights, MoeWeights

Prepared = tuple[native.Rows, "ctypes.Array[native.Dense]"]
"""Where the rows of a pass and its dense groups are."""


class NativeLayers(Layers):
    """Layers whose attention and router are one or two calls."""

    def __init__(self, config: ModelConfig, weights: AttentionWeights, kernels: NativeKernels) -> None:
        """Compute with `weights`, which this keeps."""
        super().__init__(config, weights, kernels)
        self._library = kernels.library
        self._attentions = [_attention(config, layer) for layer in weights.layers]
        self._mlps = [_mlp(layer) for layer in weights.layers]
        self._routers = {
            index: _router(config, layer, layer.mlp)
            for index, layer in enumerate(weights.layers)
            if isinstance(layer.mlp, MoeWeights)
        }

    def prepared(self, layout: Layout, turn: tuple[Tensor, Tensor]) -> Prepared:
        """Return where the rows of a pass and its dense groups are."""
        cosine, sine = turn
        slots, groups = layout.write_slots, [_dense(group) for group in layout.dense]
        rows = native.Rows(slots.shape[0], cosine.data_ptr(), sine.data_ptr(), slots.data_ptr())
        return rows, (native.Dense * len(groups))(*groups)

    def attention(self, step: Step, index: int, hidden: Tensor, selection: Selection) -> tuple[Tensor, Selection]:
        """Add the attention of a layer to `hidden`, in place."""
        layer, latent = self._attentions[index], step.cache.latent(index)
        if not step.layout.sparse:
            rows, groups = _compiled(step)
            keys = step.cache.index_keys(index).data_ptr() if layer.index_heads else None
            self._library.glm5_attention(layer, rows, groups, len(groups), hidden.data_ptr(), latent.data_ptr(), keys)
            return hidden, selection
        chooses = layer.index_heads > 0
        queries, index_queries, index_weights = self._projected(step, index, hidden, chooses)
        if index_queries is not None and index_weights is not None:
            selection = select_rows(step, index, index_queries, index_weights)
        mixed = hidden.new_empty(hidden.shape[0], self._config.num_heads, self._config.kv_lora_rank)
        self._attend(step, layer, queries, latent, selection, mixed)
        self._library.glm5_project_back(layer, hidden.shape[0], mixed.data_ptr(), hidden.data_ptr())
        return hidden, selection

    def write(self, step: Step, index: int, hidden: Tensor) -> None:
        """Write the cache entries of the rows `hidden` [M, hidden] of layer `index`."""
        self._project(step, index, hidden, None, None, None)

    def _projected(
        self, step: Step, index: int, hidden: Tensor, chooses: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Write the rows' cache entries; return queries and, where a full layer chooses, index queries and weights."""
        config, rows = self._config, hidden.shape[0]
        queries = hidden.new_empty(rows, config.num_heads, config.kv_lora_rank + config.qk_rope_head_dim)
        index_queries = hidden.new_empty(rows, config.index_n_heads, config.index_head_dim) if chooses else None
        index_weights = hidden.new_empty(rows, config.index_n_heads) if chooses else None
        self._project(step, index, hidden, queries, index_queries, index_weights)
        return queries, index_queries, index_weights

    def _project(self, step: Step, index: int, hidden: Tensor, *wanted: Tensor | None) -> None:
        """Write the rows' cache entries, and what is wanted of queries, index queries and index weights."""
        layer, cache = self._attentions[index], step.cache
        keys = cache.index_keys(index).data_ptr() if layer.index_heads else None
        to = (None if one is None else one.data_ptr() for one in wanted)
        rows = _compiled(step)[0]
        self._library.glm5_project(layer, rows, hidden.data_ptr(), cache.latent(index).data_ptr(), keys, *to)

    def _attend(
        self, step: Step, layer: native.Attention, queries: Tensor, latent: Tensor, selection: Selection, mixed: Tensor
    ) -> None:
        """Write the weighted latents of all rows to `mixed`."""
        fixed = layer, queries.data_ptr(), latent.data_ptr()
        for dense in _compiled(step)[1]:
            self._library.glm5_attend_all(
                *fixed, dense.numbers, dense.positions, dense.count, dense.pages, dense.line, mixed.data_ptr()
            )
        for group, slots in zip(step.layout.sparse, selection, strict=True):
            rows, slots = group.numbers, slots.contiguous()
            self._library.glm5_attend_selected(
                *fixed,
                rows.data_ptr(),
                rows.shape[0],
                slots.data_ptr(),
                slots.shape[1],
                self._config.index_topk,
                mixed.data_ptr(),
            )

    def route(self, index: int, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return normed rows, expert ids and gates of a sparse layer."""
        rows, chosen = hidden.shape[0], self._config.num_experts_per_tok
        normed, gates = torch.empty_like(hidden), hidden.new_empty(rows, chosen)
        ids = torch.empty(rows, chosen, dtype=torch.int64)
        self._library.glm5_route(
            self._routers[index], hidden.data_ptr(), rows, normed.data_ptr(), ids.data_ptr(), gates.data_ptr()
        )
        return normed, ids, gates

    def mlp(self, index: int, normed: Tensor) -> Tensor:
        """Return the MLP of a dense layer or the shared expert of a sparse one, [M, hidden]."""
        out = torch.empty_like(normed)
        self._library.glm5_mlp(*self._mlps[index], normed.data_ptr(), normed.shape[0], out.data_ptr())
        return out


def _compiled(step: Step) -> Prepared:
    """Return what `prepared` has made."""
    assert isinstance(step.compiled, tuple)
    return step.compiled


def _dense(group: Group) -> native.Dense:
    """Return a group as the library wants it."""
    numbers, positions, pages = group.numbers, group.positions, group.pages
    line = pages.shape[1] if pages.shape[0] > 1 else 0
    return native.Dense(numbers.data_ptr(), positions.data_ptr(), numbers.shape[0], pages.data_ptr(), line)


def _attention(config: ModelConfig, layer: LayerWeights) -> native.Attention:
    """Return the attention of a layer as the library wants it."""
    full = layer.indexer
    return native.Attention(
        q_rank=config.q_lora_rank,
        rank=config.kv_lora_rank,
        rope=config.qk_rope_head_dim,
        heads=config.num_heads,
        nope=config.qk_nope_head_dim,
        index_heads=config.index_n_heads if full else 0,
        index_dim=config.index_head_dim if full else 0,
        eps=config.rms_norm_eps,
        latent_eps=config.latent_norm_eps,
        index_eps=INDEX_NORM_EPS,
        scale=config.qk_head_dim**-0.5,
        input_norm=layer.input_norm.data_ptr(),
        q_norm=layer.q_norm.data_ptr(),
        kv_norm=layer.kv_norm.data_ptr(),
        index_weight=full.norm_weight.data_ptr() if full else None,
        index_bias=full.norm_bias.data_ptr() if full else None,
        from_hidden=native.weight(layer.from_hidden),
        from_query=native.weight(layer.from_query),
        output=native.weight(layer.output),
        absorb_keys=native.weight(layer.absorb_keys),
        expand_values=native.weight(layer.expand_values),
    )


def _mlp(layer: LayerWeights) -> tuple[native.Weight, native.Weight]:
    """Return the MLP of a dense layer or the shared expert of a sparse one as the library wants it."""
    weights = layer.mlp if isinstance(layer.mlp, MlpWeights) else layer.mlp.shared
    return native.weight(weights.gate_up), native.weight(weights.down)


def _router(config: ModelConfig, layer: LayerWeights, moe: MoeWeights) -> native.Router:
    """Return the router of a sparse layer as the library wants it."""
    return native.Router(
        norm=layer.post_norm.data_ptr(),
        router=native.weight(moe.router),
        bias=moe.bias.data_ptr(),
        chosen=config.num_experts_per_tok,
        normalised=config.norm_topk_prob,
        eps=config.rms_norm_eps,
        scaling=config.routed_scaling_factor,
    )
