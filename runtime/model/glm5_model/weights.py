"""The parameters of an attention worker.

Every product's weight is stored [in, out], contiguous: with this layout the CPU library gives a row the same bits in
every batch of two rows or more (measured), with [out, in] only from sixteen rows on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class MlpWeights:
    """A gated MLP: a dense layer or a shared expert."""

    gate_up: Tensor
    """[hidden, 2 * width]: gate first."""
    down: Tensor
    """[width, hidden]."""


@dataclass(frozen=True, slots=True)
class MoeWeights:
    """A sparse layer without its routed experts."""

    router: Tensor
    """[hidden, experts] float32."""
    bias: Tensor
    """[experts] float32, for the choice only."""
    shared: MlpWeights


@dataclass(frozen=True, slots=True)
class IndexerWeights:
    """What a full layer has more than a shared one; its products are fused into those of the attention."""

    norm_weight: Tensor
    """[index_head_dim]."""
    norm_bias: Tensor
    """[index_head_dim]."""


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer without routed experts."""

    input_norm: Tensor
    """[hidden]."""
    post_norm: Tensor
    """[hidden]."""
    from_hidden: Tensor
    """[hidden, q_lora_rank + latent width (+ index_head_dim + index_n_heads)]: q_a, kv_a (, wk, weights_proj).
    Whatever is rotated comes out with the even parts of all pairs before the odd ones, here and in `from_query`."""
    q_norm: Tensor
    """[q_lora_rank]."""
    kv_norm: Tensor
    """[kv_lora_rank]."""
    from_query: Tensor
    """[q_lora_rank, heads * qk_head_dim (+ index_n_heads * index_head_dim)]: of q_b (and wq_b) first every head's
    part without rotation, then the rotated parts of the heads (and index heads, then the index heads' rest)."""
    absorb_keys: Tensor
    """[heads, qk_nope_head_dim, kv_lora_rank]: takes a query into the latent space."""
    expand_values: Tensor
    """[heads, kv_lora_rank, v_head_dim]: takes a weighted latent to a head's output."""
    output: Tensor
    """[heads * v_head_dim, hidden]."""
    indexer: IndexerWeights | None
    """None where the layer reuses an earlier selection."""
    mlp: MlpWeights | MoeWeights


@dataclass(frozen=True, slots=True)
class MtpWeights:
    """The layer for multi-token prediction without its routed experts."""

    layer: LayerWeights
    combine: Tensor
    """[2 * hidden, hidden]: embedding half first."""
    embedding_norm: Tensor
    """[hidden]."""
    hidden_norm: Tensor
    """[hidden]."""
    head_norm: Tensor
    """[hidden]."""


@dataclass(frozen=True, slots=True)
class AttentionWeights:
    """Everything of a model but the routed experts."""

    embedding: Tensor
    """[vocab, hidden]."""
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    """[hidden]."""
    head: Tensor
    """[hidden, vocab]."""
    mtp: MtpWeights | None
    """None where the checkpoint has no such layer."""


def products(weights: AttentionWeights) -> list[Tensor]:
    """Return every weight that a forward pass multiplies rows by, without the head: [in, out] or [heads, in, out]."""
    return [weight for layer in weights.layers for weight in _layer_products(layer)]


def _layer_products(layer: LayerWeights) -> Iterator[Tensor]:
    """Yield the weights of one layer's products."""
    yield from (layer.from_hidden, layer.from_query, layer.absorb_keys, layer.expand_values, layer.output)
    mlp = layer.mlp
    if isinstance(mlp, MoeWeights):
        yield mlp.router
        mlp = mlp.shared
    yield from (mlp.gate_up, mlp.down)
