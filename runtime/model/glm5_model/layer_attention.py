"""The attention half of a layer: projections, cache writes, selection, attention, output."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glm5_model.attention import attend_all, attend_selected
from glm5_model.cache import PagedCache
from glm5_model.config import ModelConfig
from glm5_model.indexer import select
from glm5_model.kernels import Kernels
from glm5_model.layout import Layout, filled
from glm5_model.norms import rms_norm
from glm5_model.rope import rotate
from glm5_model.weights import IndexerWeights, LayerWeights

INDEX_NORM_EPS = 1e-6

Selection = list[Tensor]
"""For each sparse group the slots of its rows' selections, [R, padded index_topk] int64."""


@dataclass(frozen=True, slots=True)
class Step:
    """What all layers of one pass share."""

    config: ModelConfig
    kernels: Kernels
    cache: PagedCache
    layout: Layout
    split: int
    """Cached rows whose shares are summed at once."""
    unseen: Tensor | None
    """[1, padded index_topk] bool: what only fills up a selection; None where nothing does."""
    selected: int
    """Padded index_topk."""
    turn: tuple[Tensor, Tensor]
    """Factors for `rotate`, two [M, qk_rope_head_dim]."""
    turn_heads: tuple[Tensor, Tensor]
    """The same for rows of heads, two [M, 1, qk_rope_head_dim]."""
    compiled: object
    """What the layers have prepared of it."""


def layer_attention(
    step: Step, layer: int, rows: Tensor, weights: LayerWeights, selection: Selection
) -> tuple[Tensor, Selection]:
    """Return the attention output of normalised `rows`, and the selection for the layers after it.

    Args:
        step: what all layers share.
        layer: index in the cache.
        rows: [M, hidden], after the input norm.
        weights: of the layer.
        selection: of the last full layer; ignored by a full layer.

    Returns:
        [M, hidden], and a selection of the batch's sparse rows.
    """
    config, kernels, count = step.config, step.kernels, step.layout.count
    query_raw, *index_raw = write_cache(step, layer, rows, weights)
    query_latent = rms_norm(query_raw, weights.q_norm, config.latent_norm_eps)
    plain, turning, *index_plain = torch.split(
        kernels.linear(query_latent, weights.from_query), _query_widths(config, weights.indexer is not None), dim=-1
    )
    turned = rotate(turning.view(rows.shape[0], -1, config.qk_rope_head_dim), *step.turn_heads)
    if weights.indexer is not None and step.layout.sparse:
        heads = index_plain[0].view(rows.shape[0], config.index_n_heads, -1)
        queries = torch.cat([turned[:, config.num_heads :], heads], dim=-1)
        selection = select_rows(step, layer, queries, index_raw[0])
    absorbed = kernels.per_head(plain.view(rows.shape[0], config.num_heads, -1), weights.absorb_keys)
    queries = torch.cat([absorbed, turned[:, : config.num_heads]], dim=-1)[:count]
    scale: float = config.qk_head_dim**-0.5
    mixed = _attend(step, layer, queries.to(torch.float32).mul_(scale), selection)  # [N, heads, kv_lora_rank]
    heads = kernels.per_head(
        filled(mixed, rows.shape[0]).to(rows.dtype), weights.expand_values
    )  # [M, heads, v_head_dim]
    return kernels.linear(heads.flatten(1), weights.output), selection


def write_cache(step: Step, layer: int, rows: Tensor, weights: LayerWeights) -> list[Tensor]:
    """Write the cache entries of normalised `rows` [M, hidden].

    Returns:
        What else comes from them: [M, q_lora_rank] and, of a full layer, the index heads' weights, [M, index_n_heads].
    """
    config, cache, slots = step.config, step.cache, step.layout.write_slots
    query_raw, latent_raw, key_raw, *index_raw = torch.split(
        step.kernels.linear(rows, weights.from_hidden), _hidden_widths(config, weights.indexer is not None), dim=-1
    )
    latent = rms_norm(latent_raw, weights.kv_norm, config.latent_norm_eps)
    write = torch.cat([latent, rotate(key_raw, *step.turn)], dim=-1).to(cache.dtype)
    cache.latent(layer).index_copy_(0, slots, write)
    if weights.indexer is not None:
        cache.index_keys(layer).index_copy_(0, slots, index_keys(step, index_raw[0], weights.indexer))
    return [query_raw, *index_raw[1:]]


def _hidden_widths(config: ModelConfig, full: bool) -> list[int]:
    """Return the widths of the parts that come from the hidden state."""
    widths = [config.q_lora_rank, config.kv_lora_rank, config.qk_rope_head_dim]
    return [*widths, config.index_head_dim, config.index_n_heads] if full else widths


def _query_widths(config: ModelConfig, full: bool) -> list[int]:
    """Return the widths of the parts that come from the query latent: all that is rotated lies together."""
    turning = config.num_heads + (config.index_n_heads if full else 0)
    widths = [config.num_heads * config.qk_nope_head_dim, turning * config.qk_rope_head_dim]
    index_plain = config.index_n_heads * (config.index_head_dim - config.qk_rope_head_dim)
    return [*widths, index_plain] if full else widths


def index_keys(step: Step, raw: Tensor, weights: IndexerWeights) -> Tensor:
    """Return the rows' index keys for the cache, normalised and rotated, [M, index_head_dim]."""
    turning = step.config.qk_rope_head_dim
    keys = torch.layer_norm(raw, (raw.shape[-1],), weights.norm_weight, weights.norm_bias, INDEX_NORM_EPS)
    return torch.cat([rotate(keys[:, :turning], *step.turn), keys[:, turning:]], dim=-1).to(step.cache.dtype)


def select_rows(step: Step, layer: int, queries: Tensor, raw_weights: Tensor) -> Selection:
    """Return the selection of each sparse group."""
    config = step.config
    # Both scales are positive, so they may go to the weights: relu(a * x) = a * relu(x).
    scale = config.index_n_heads**-0.5 * config.index_head_dim**-0.5
    weights = raw_weights.to(torch.float32) * scale
    stored = step.cache.index_keys(layer)
    return [
        select(
            queries[group.rows].to(torch.float32),
            weights[group.rows],
            stored,
            group,
            config.index_topk,
            step.selected,
            step.kernels,
        )
        for group in step.layout.sparse
    ]


def _attend(step: Step, layer: int, queries: Tensor, selection: Selection) -> Tensor:
    """Return the weighted latents of all rows, [N, heads, kv_lora_rank] float32."""
    layout, rank, split, kernels = step.layout, step.config.kv_lora_rank, step.split, step.kernels
    latent = step.cache.latent(layer)
    parts = [
        (group.rows, attend_all(queries[group.rows], latent, group, rank, split, kernels)) for group in layout.dense
    ] + [
        (group.rows, attend_selected(queries[group.rows], latent, slots, step.unseen, rank, split, kernels))
        for group, slots in zip(layout.sparse, selection, strict=True)
    ]
    if len(parts) == 1:
        return parts[0][1]
    mixed = queries.new_empty(queries.shape[0], queries.shape[1], rank)
    for rows, part in parts:
        mixed[rows] = part
    return mixed
