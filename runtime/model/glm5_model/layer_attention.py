"""The attention half of a layer: projections, cache writes, selection, attention, output."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glm5_model.attention import attend
from glm5_model.cache import PagedCache
from glm5_model.config import ModelConfig
from glm5_model.indexer import select
from glm5_model.kernels import Kernels
from glm5_model.layout import Layout, split_size
from glm5_model.norms import rms_norm
from glm5_model.rope import rotate
from glm5_model.weights import IndexerWeights, LayerWeights

_INDEX_NORM_EPS = 1e-6

Selection = list[Tensor]
"""For each sparse group the slots of its rows' selections, [R, padded index_topk] int64."""


@dataclass(frozen=True, slots=True)
class Step:
    """What all layers of one pass share."""

    config: ModelConfig
    kernels: Kernels
    cache: PagedCache
    layout: Layout
    cos: Tensor
    """[N, qk_rope_head_dim / 2]."""
    sin: Tensor
    """[N, qk_rope_head_dim / 2]."""


def layer_attention(
    step: Step, layer: int, rows: Tensor, weights: LayerWeights, selection: Selection
) -> tuple[Tensor, Selection]:
    """Return the attention output of normalised `rows` [N, hidden], and the selection for the layers after it.

    Args:
        step: what all layers share.
        layer: index in the cache.
        rows: [N, hidden], after the input norm.
        weights: of the layer.
        selection: of the last full layer; ignored by a full layer.
    """
    config, kernels = step.config, step.kernels
    widths = [config.q_lora_rank, config.kv_lora_rank, config.qk_rope_head_dim]
    projected = kernels.linear(rows, weights.from_hidden)
    query_raw, latent_raw, key_raw, *index_raw = torch.split(
        projected,
        widths if weights.indexer is None else [*widths, config.index_head_dim, config.index_n_heads],
        dim=-1,
    )
    query_latent = rms_norm(query_raw, weights.q_norm, config.latent_norm_eps)
    latent = rms_norm(latent_raw, weights.kv_norm, config.latent_norm_eps)
    write = torch.cat([latent, rotate(key_raw, step.cos, step.sin)], dim=-1)
    step.cache.latent(layer).index_copy_(0, step.layout.write_slots, write.to(step.cache.dtype))

    from_query = kernels.linear(query_latent, weights.from_query)
    heads_width = config.num_heads * config.qk_head_dim
    if weights.indexer is not None:
        selection = _select(step, layer, from_query[:, heads_width:], index_raw, weights.indexer)
    queries = _absorbed_queries(step, from_query[:, :heads_width], weights)
    mixed = _attend_all(step, layer, queries, selection)  # [N, heads, kv_lora_rank]
    heads = kernels.per_head(mixed.to(rows.dtype), weights.expand_values)  # [N, heads, v_head_dim]
    return kernels.linear(heads.flatten(1), weights.output), selection


def _absorbed_queries(step: Step, flat: Tensor, weights: LayerWeights) -> Tensor:
    """Return queries in the latent space beside their rotated part, scaled, [N, heads, latent width] float32."""
    config = step.config
    plain, rotated = torch.split(
        flat.reshape(-1, config.num_heads, config.qk_head_dim),
        [config.qk_nope_head_dim, config.qk_rope_head_dim],
        dim=-1,
    )
    absorbed = step.kernels.per_head(plain, weights.absorb_keys)
    turned = rotate(rotated, step.cos[:, None], step.sin[:, None])
    scale: float = config.qk_head_dim**-0.5
    return torch.cat([absorbed, turned], dim=-1).to(torch.float32) * scale


def _select(step: Step, layer: int, flat: Tensor, raw: list[Tensor], weights: IndexerWeights) -> Selection:
    """Store the rows' index keys, and return the selection of each sparse group."""
    config = step.config
    keys = F.layer_norm(raw[0], (config.index_head_dim,), weights.norm_weight, weights.norm_bias, _INDEX_NORM_EPS)
    stored = step.cache.index_keys(layer)
    stored.index_copy_(0, step.layout.write_slots, _turn_first(keys, step.cos, step.sin).to(step.cache.dtype))
    if not step.layout.sparse:
        return []
    queries = _turn_first(
        flat.reshape(-1, config.index_n_heads, config.index_head_dim), step.cos[:, None], step.sin[:, None]
    )
    # Both scales are positive, so they may go to the weights: relu(a * x) = a * relu(x).
    scale = config.index_n_heads**-0.5 * config.index_head_dim**-0.5
    head_weights = raw[1].to(torch.float32) * scale
    split = split_size(config.index_topk)
    return [
        select(
            queries[group.rows].to(torch.float32),
            head_weights[group.rows],
            stored,
            group,
            config.index_topk,
            split,
            step.kernels,
        )
        for group in step.layout.sparse
    ]


def _turn_first(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `values` [..., d] with the first numbers rotated, as many as cos and sin cover, and the rest as it is."""
    width = 2 * cos.shape[-1]
    return torch.cat([rotate(values[..., :width], cos, sin), values[..., width:]], dim=-1)


def _attend_all(step: Step, layer: int, queries: Tensor, selection: Selection) -> Tensor:
    """Return the weighted latents of all rows, [N, heads, kv_lora_rank] float32."""
    config, layout = step.config, step.layout
    split, rank = split_size(config.index_topk), config.kv_lora_rank
    latent = step.cache.latent(layer)
    mixed = queries.new_empty(queries.shape[0], config.num_heads, rank)
    for group in layout.dense:
        counts = group.positions + 1
        mixed[group.rows] = attend(queries[group.rows], latent, group.slots, counts, rank, split, step.kernels)
    for group, slots in zip(layout.sparse, selection, strict=True):
        counts = torch.full_like(group.positions, config.index_topk)
        mixed[group.rows] = attend(queries[group.rows], latent, slots, counts, rank, split, step.kernels)
    return mixed
