"""Random weights under the hub's names.

Everything that a fresh `from_config` leaves neutral (norm weights, correction bias, k_norm's bias) is random too:
otherwise half of the mistakes that a runtime can make would not show.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Named = Iterator[tuple[str, Tensor]]


def toy_tensors(config: dict[str, Any], seed: int, num_tokens: int) -> Named:
    """Yield every tensor of the checkpoint in float32.

    The same (seed, name, shape) gives the same values in every variant.

    Args:
        config: config.json.
        seed: of all values.
        num_tokens: rows of the vocabulary that the tokenizer uses; the padding rows of the head are zero.
    """
    draw = _Draw(seed)
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", draw.normal("model.embed_tokens.weight", (vocab, hidden), 1.0)
    layers = config["num_hidden_layers"]
    for layer in range(layers):
        full = config["indexer_types"][layer] == "full"
        sparse = config["mlp_layer_types"][layer] == "sparse"
        yield from _layer(draw, config, f"model.layers.{layer}.", full, sparse)
    if config["num_nextn_predict_layers"]:
        yield from _mtp(draw, config, f"model.layers.{layers}.")
    yield "model.norm.weight", draw.norm("model.norm.weight", hidden)
    yield "lm_head.weight", _head(draw, config, num_tokens)


def _head(draw: "_Draw", config: dict[str, Any], num_tokens: int) -> Tensor:
    hidden = config["hidden_size"]
    # Logits with a standard deviation near 4: greedy choices differ from step to step and have clear margins.
    head = draw.linear("lm_head.weight", config["vocab_size"], hidden, gain=4.0)
    head[num_tokens:] = 0.0
    # Stop tokens come up now and then, but most answers run on for dozens of tokens.
    head[config["eos_token_id"]] *= 0.7
    return head


def _layer(draw: "_Draw", config: dict[str, Any], prefix: str, full: bool, sparse: bool) -> Named:
    hidden = config["hidden_size"]
    yield prefix + "input_layernorm.weight", draw.norm(prefix + "input_layernorm.weight", hidden)
    yield from _attention(draw, config, prefix + "self_attn.")
    if full:
        yield from _indexer(draw, config, prefix + "self_attn.indexer.")
    yield prefix + "post_attention_layernorm.weight", draw.norm(prefix + "post_attention_layernorm.weight", hidden)
    if sparse:
        yield from _moe(draw, config, prefix + "mlp.")
    else:
        yield from _mlp(draw, prefix + "mlp.", hidden, config["intermediate_size"])


def _attention(draw: "_Draw", config: dict[str, Any], prefix: str) -> Named:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    q_rank, kv_rank, rope = config["q_lora_rank"], config["kv_lora_rank"], config["qk_rope_head_dim"]
    nope, value = config["qk_nope_head_dim"], config["v_head_dim"]
    # Latents so small (0.01) that the epsilon of their norms shows: 1e-5 instead of 1e-6 gives other tokens.
    yield prefix + "q_a_proj.weight", draw.linear(prefix + "q_a_proj.weight", q_rank, hidden, gain=0.01)
    yield prefix + "q_a_layernorm.weight", draw.norm(prefix + "q_a_layernorm.weight", q_rank)
    q_b = prefix + "q_b_proj.weight"
    yield q_b, draw.linear(q_b, heads * (nope + rope), q_rank, gain=2.0)  # scores of a few units: attention is sharp
    kv_a = draw.linear(prefix + "kv_a_proj_with_mqa.weight", kv_rank + rope, hidden)
    kv_a[:kv_rank] *= 0.01
    yield prefix + "kv_a_proj_with_mqa.weight", kv_a
    yield prefix + "kv_a_layernorm.weight", draw.norm(prefix + "kv_a_layernorm.weight", kv_rank)
    yield prefix + "kv_b_proj.weight", draw.linear(prefix + "kv_b_proj.weight", heads * (nope + value), kv_rank)
    yield prefix + "o_proj.weight", draw.linear(prefix + "o_proj.weight", hidden, heads * value, gain=2.0)


def _indexer(draw: "_Draw", config: dict[str, Any], prefix: str) -> Named:
    hidden, heads, width = config["hidden_size"], config["index_n_heads"], config["index_head_dim"]
    yield prefix + "wq_b.weight", draw.linear(prefix + "wq_b.weight", heads * width, config["q_lora_rank"])
    yield prefix + "wk.weight", draw.linear(prefix + "wk.weight", width, hidden)
    yield prefix + "k_norm.weight", draw.norm(prefix + "k_norm.weight", width)
    yield prefix + "k_norm.bias", draw.normal(prefix + "k_norm.bias", (width,), 0.3)
    yield prefix + "weights_proj.weight", draw.linear(prefix + "weights_proj.weight", heads, hidden)


def _mlp(draw: "_Draw", prefix: str, hidden: int, width: int) -> Named:
    yield prefix + "gate_proj.weight", draw.linear(prefix + "gate_proj.weight", width, hidden)
    yield prefix + "up_proj.weight", draw.linear(prefix + "up_proj.weight", width, hidden)
    yield prefix + "down_proj.weight", draw.linear(prefix + "down_proj.weight", hidden, width, gain=2.0)


def _moe(draw: "_Draw", config: dict[str, Any], prefix: str) -> Named:
    hidden, width, experts = config["hidden_size"], config["moe_intermediate_size"], config["n_routed_experts"]
    yield prefix + "gate.weight", draw.linear(prefix + "gate.weight", experts, hidden)
    bias = prefix + "gate.e_score_correction_bias"
    yield bias, draw.normal(bias, (experts,), 0.05)
    # One draw a projection for all experts: 256 small draws would take most of the time.
    gate = draw.normal(prefix + "experts.gate_proj", (experts, width, hidden), hidden**-0.5)
    up = draw.normal(prefix + "experts.up_proj", (experts, width, hidden), hidden**-0.5)
    down = draw.normal(prefix + "experts.down_proj", (experts, hidden, width), 2.0 * width**-0.5)
    for expert in range(experts):
        yield f"{prefix}experts.{expert}.gate_proj.weight", gate[expert]
        yield f"{prefix}experts.{expert}.up_proj.weight", up[expert]
        yield f"{prefix}experts.{expert}.down_proj.weight", down[expert]
    yield from _mlp(draw, prefix + "shared_experts.", hidden, width * config["n_shared_experts"])


def _mtp(draw: "_Draw", config: dict[str, Any], prefix: str) -> Named:
    hidden = config["hidden_size"]
    yield prefix + "eh_proj.weight", draw.linear(prefix + "eh_proj.weight", hidden, 2 * hidden)
    for name in ("enorm.weight", "hnorm.weight", "shared_head.norm.weight"):
        yield prefix + name, draw.norm(prefix + name, hidden)
    yield from _layer(draw, config, prefix, full=True, sparse=True)


class _Draw:
    """Random tensors that depend on the seed and on the tensor's own name only."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def normal(self, name: str, shape: tuple[int, ...], deviation: float) -> Tensor:
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        return torch.randn(shape, generator=generator) * deviation

    def linear(self, name: str, rows: int, columns: int, gain: float = 1.0) -> Tensor:
        """Return [rows, columns] that turns unit inputs into outputs of deviation `gain`."""
        return self.normal(name, (rows, columns), gain * columns**-0.5)

    def norm(self, name: str, width: int) -> Tensor:
        """Return the weight of a norm: around 1, never the same."""
        return 1.0 + self.normal(name, (width,), 0.2)
