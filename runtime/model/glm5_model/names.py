"""The one table of checkpoint tensors: Hugging Face's names and the shapes that a config wants."""

from glm5_model.config import ModelConfig

Shapes = dict[str, tuple[int, ...]]

EMBED = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"
SCALE_SUFFIX = "_scale_inv"
"""Added to a weight's name: the float32 multipliers of its FP8 blocks."""
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def layer_prefix(layer: int) -> str:
    """Return how the names of a layer's tensors begin; the MTP layer is the one after the last."""
    return f"model.layers.{layer}."


def expert_prefix(layer: int, expert: int) -> str:
    """Return how the names of a routed expert's tensors begin."""
    return f"{layer_prefix(layer)}mlp.experts.{expert}."


def top_shapes(config: ModelConfig) -> Shapes:
    """Return the tensors outside the layers."""
    embedding = (config.vocab_size, config.hidden_size)
    return {EMBED: embedding, FINAL_NORM: (config.hidden_size,), HEAD: embedding}


def attention_shapes(config: ModelConfig, full: bool) -> Shapes:
    """Return a layer's norms, latent attention and, where it is a full layer, indexer, without the layer's prefix."""
    hidden, heads = config.hidden_size, config.num_heads
    shapes: Shapes = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_a_proj.weight": (config.q_lora_rank, hidden),
        "self_attn.q_a_layernorm.weight": (config.q_lora_rank,),
        "self_attn.q_b_proj.weight": (heads * config.qk_head_dim, config.q_lora_rank),
        "self_attn.kv_a_proj_with_mqa.weight": (config.latent_width, hidden),
        "self_attn.kv_a_layernorm.weight": (config.kv_lora_rank,),
        "self_attn.kv_b_proj.weight": (heads * (config.qk_nope_head_dim + config.v_head_dim), config.kv_lora_rank),
        "self_attn.o_proj.weight": (hidden, heads * config.v_head_dim),
    }
    return shapes | _indexer_shapes(config) if full else shapes


def _indexer_shapes(config: ModelConfig) -> Shapes:
    """Return the indexer of one full layer."""
    return {
        "self_attn.indexer.wq_b.weight": (config.index_n_heads * config.index_head_dim, config.q_lora_rank),
        "self_attn.indexer.wk.weight": (config.index_head_dim, config.hidden_size),
        "self_attn.indexer.k_norm.weight": (config.index_head_dim,),
        "self_attn.indexer.k_norm.bias": (config.index_head_dim,),
        "self_attn.indexer.weights_proj.weight": (config.index_n_heads, config.hidden_size),
    }


def mlp_shapes(prefix: str, hidden: int, width: int) -> Shapes:
    """Return the three projections of a gated MLP of `width`."""
    return {
        f"{prefix}gate_proj.weight": (width, hidden),
        f"{prefix}up_proj.weight": (width, hidden),
        f"{prefix}down_proj.weight": (hidden, width),
    }


def feed_forward_shapes(config: ModelConfig, sparse: bool) -> Shapes:
    """Return a layer's dense MLP, or its router and shared expert, without the routed experts."""
    if not sparse:
        return mlp_shapes("mlp.", config.hidden_size, config.intermediate_size)
    shared = config.moe_intermediate_size * config.num_shared_experts
    return {
        "mlp.gate.weight": (config.num_experts, config.hidden_size),
        "mlp.gate.e_score_correction_bias": (config.num_experts,),
        **mlp_shapes("mlp.shared_experts.", config.hidden_size, shared),
    }


def mtp_shapes(config: ModelConfig) -> Shapes:
    """Return what the MTP layer has beside a sparse full layer, without its prefix."""
    hidden = config.hidden_size
    return {
        "eh_proj.weight": (hidden, 2 * hidden),
        "enorm.weight": (hidden,),
        "hnorm.weight": (hidden,),
        "shared_head.norm.weight": (hidden,),
    }


def worker_shapes(config: ModelConfig, with_mtp: bool) -> Shapes:
    """Return every tensor of an attention worker: all but the routed experts."""
    shapes = top_shapes(config)
    for layer in range(config.num_layers):
        full, sparse = config.indexer_types[layer] == "full", config.mlp_layer_types[layer] == "sparse"
        parts = attention_shapes(config, full) | feed_forward_shapes(config, sparse)
        shapes |= {layer_prefix(layer) + name: shape for name, shape in parts.items()}
    if with_mtp:
        parts = attention_shapes(config, True) | feed_forward_shapes(config, True) | mtp_shapes(config)
        shapes |= {layer_prefix(config.num_layers) + name: shape for name, shape in parts.items()}
    return shapes


def expert_layers(config: ModelConfig, with_mtp: bool) -> tuple[int, ...]:
    """Return the layers that have routed experts, the MTP layer last."""
    return (*config.moe_layers, config.num_layers) if with_mtp else config.moe_layers


def expert_shapes(config: ModelConfig, layer: int, expert: int) -> Shapes:
    """Return the tensors of one routed expert."""
    return mlp_shapes(expert_prefix(layer, expert), config.hidden_size, config.moe_intermediate_size)


def all_shapes(config: ModelConfig, with_mtp: bool) -> Shapes:
    """Return every tensor that a checkpoint of `config` must hold."""
    shapes = worker_shapes(config, with_mtp)
    for layer in expert_layers(config, with_mtp):
        for expert in range(config.num_experts):
            shapes |= expert_shapes(config, layer, expert)
    return shapes
