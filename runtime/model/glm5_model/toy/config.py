"""config.json and generation_config.json."""

from typing import Any

from glm5_model.toy.errors import ToyError
from glm5_model.toy.sizes import ToySizes

VARIANTS = ("5.0", "5.2")
ROPE_THETA = {"5.0": 1_000_000, "5.2": 8_000_000}


def indexer_types(variant: str, num_layers: int) -> list[str]:
    """Return "full" or "shared" for each layer: all full in 5.0, IndexShare with frequency 4 and offset 3 in 5.2."""
    if variant == "5.0":
        return ["full"] * num_layers
    return ["full" if max(layer - 2, 0) % 4 == 0 else "shared" for layer in range(num_layers)]


def config_json(sizes: ToySizes, variant: str, dtype: str, eos_token_ids: list[int], mtp: bool) -> dict[str, Any]:
    """Return config.json of an unquantised checkpoint.

    Args:
        sizes: all dimensions.
        variant: "5.0" or "5.2".
        dtype: "float32" or "bfloat16".
        eos_token_ids: <|endoftext|>, <|user|>, <|observation|>; the first is the padding token too.
        mtp: whether the checkpoint has a next-token-prediction layer.
    """
    if variant not in VARIANTS:
        raise ToyError(f"toy variant {variant!r} is unknown: choose one of {', '.join(VARIANTS)}.")
    layers = sizes.num_hidden_layers
    return {
        "architectures": ["GlmMoeDsaForCausalLM"],
        "model_type": "glm_moe_dsa",
        "dtype": dtype,
        **_dimensions(sizes),
        "mlp_layer_types": ["dense"] * sizes.num_dense_layers + ["sparse"] * sizes.num_sparse_layers,
        "indexer_types": indexer_types(variant, layers),
        **({} if variant == "5.0" else {"index_topk_freq": 4, "index_skip_topk_offset": 3, "index_topk_pattern": None}),
        "rope_parameters": {"rope_theta": ROPE_THETA[variant], "rope_type": "default"},
        "eos_token_id": eos_token_ids,
        "pad_token_id": eos_token_ids[0],
        "bos_token_id": None,
        "num_nextn_predict_layers": int(mtp),
        **_CONSTANTS,
    }


def _dimensions(sizes: ToySizes) -> dict[str, int]:
    own = {"num_dense_layers", "num_sparse_layers", "fp8_block", "file_bytes"}
    names = [name for name in ToySizes.__dataclass_fields__ if name not in own]
    return {
        **{name: getattr(sizes, name) for name in names},
        "num_hidden_layers": sizes.num_hidden_layers,
        "num_key_value_heads": sizes.num_attention_heads,
        "first_k_dense_replace": sizes.num_dense_layers,
        # Nominal on the real models too, and different between them: nobody may read it.
        "head_dim": 64,
    }


_CONSTANTS: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "indexer_rope_interleave": True,
    "initializer_range": 0.02,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-05,
    "rope_interleave": True,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
    "use_cache": True,
}


def generation_config_json(eos_token_ids: list[int]) -> dict[str, Any]:
    """Return generation_config.json with GLM-5's sampling defaults."""
    return {
        "do_sample": True,
        "eos_token_id": eos_token_ids,
        "pad_token_id": eos_token_ids[0],
        "temperature": 1.0,
        "top_p": 0.95,
    }


def quantization_config(config: dict[str, Any], block: int) -> dict[str, Any]:
    """Return the block-FP8 entry of config.json.

    `indexers_proj` names nothing, on the real models either: whether a tensor is quantised is told by the presence of
    its `weight_scale_inv`.
    """
    kept = ["lm_head", "model.embed_tokens"]
    layers = config["num_hidden_layers"] + config["num_nextn_predict_layers"]
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        kept += [f"{prefix}.self_attn.indexer.weights_proj", f"{prefix}.self_attn.indexers_proj", f"{prefix}.mlp.gate"]
    if config["num_nextn_predict_layers"]:
        kept.append(f"model.layers.{layers - 1}.eh_proj")
    return {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [block, block],
        "modules_to_not_convert": kept,
    }
