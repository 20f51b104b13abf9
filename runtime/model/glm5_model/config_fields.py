"""How single keys of config.json are read; `config` is the only caller."""

from typing import Any

from glm5_model.errors import ConfigError

COUNTS = (
    "vocab_size",
    "hidden_size",
    "q_lora_rank",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "intermediate_size",
    "moe_intermediate_size",
    "num_experts_per_tok",
    "index_n_heads",
    "index_head_dim",
    "index_topk",
    "max_position_embeddings",
)
"""Keys that are positive integers and keep their name."""

_CURE = "use the config.json that came with the weights"

_ONLY = {
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "n_group": 1,
    "topk_group": 1,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
"""Keys that the whole GLM-5 family has at one value; another value means other mathematics."""

_REFUSED = {
    "glm5_next": "GLM-5.3-Flash has linear attention and hyper-connections, which this runtime does not compute",
    "glm4_moe_lite": "GLM-4.7-Flash has no sparse attention",
    "glm4_moe": "GLM-4.5 to 4.7 have no latent attention",
    "deepseek_v32": "DeepSeek-V3.2 rotates its index keys by halves",
}


def require_supported(values: dict[str, Any]) -> None:
    """Refuse every architecture but the one that is computed here.

    Raises:
        ConfigError: `model_type` is another one, or a key has a value that changes the mathematics.
    """
    model_type = values.get("model_type")
    if model_type != "glm_moe_dsa":
        why = _REFUSED.get(str(model_type), "its mathematics is unknown to this runtime")
        raise ConfigError(
            f"config.json: model_type {model_type!r} cannot be served: {why}; "
            "serve a glm_moe_dsa checkpoint (GLM-5, 5.1, 5.2 or 5.3)",
            "model_unsupported",
        )
    for key, only in _ONLY.items():
        value = values.get(key)
        if value is not None and value != only:
            raise ConfigError(
                f"config.json: {key} is {value!r}, only {only!r} can be computed; {_CURE}", "config_unsupported"
            )


def count(values: dict[str, Any], key: str) -> int:
    """Return the positive integer under `key`.

    Raises:
        ConfigError: it is missing or not a positive integer.
    """
    value = _required(values, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"config.json: {key} is {value!r}, not a positive integer; {_CURE}")
    return value


def number(values: dict[str, Any], key: str, default: float | None = None) -> float:
    """Return the positive number under `key`, or `default` where the key is absent.

    Raises:
        ConfigError: it is missing without a default, or not a positive number.
    """
    value = values.get(key, default) if default is not None else _required(values, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"config.json: {key} is {value!r}, not a positive number; {_CURE}")
    return float(value)


def rope_theta(values: dict[str, Any]) -> float:
    """Return the base of the rotation, from `rope_parameters` or the top level.

    Raises:
        ConfigError: it is missing, or the type is not "default" (a scaled rotation is not computed here).
    """
    parameters = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(parameters, dict):
        raise ConfigError(f"config.json: rope_parameters is {parameters!r}, not an object; {_CURE}")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default":
        raise ConfigError(
            f"config.json: rope_type is {kind!r}, only 'default' can be computed; {_CURE}", "config_unsupported"
        )
    if "rope_theta" in parameters:
        return number(parameters, "rope_theta")
    return number(values, "rope_theta")


def mlp_layer_types(values: dict[str, Any], num_layers: int) -> tuple[str, ...]:
    """Return "dense" or "sparse" for each layer: the list if there is one, else from `first_k_dense_replace`."""
    kinds = values.get("mlp_layer_types")
    if kinds is None:
        dense = _whole(values, "first_k_dense_replace", None)
        kinds = ["dense" if i < dense else "sparse" for i in range(num_layers)]
    return _per_layer("mlp_layer_types", kinds, {"dense", "sparse"}, num_layers)


def indexer_types(values: dict[str, Any], num_layers: int) -> tuple[str, ...]:
    """Return "full" or "shared" for each layer, by the rule of the Hugging Face class.

    Raises:
        ConfigError: the list has another length or other words, or the first layer is shared.
    """
    kinds = values.get("indexer_types")
    pattern = values.get("index_topk_pattern")
    if kinds is None and isinstance(pattern, str):
        kinds = [{"F": "full", "S": "shared"}.get(letter, letter) for letter in pattern]
    elif kinds is None and pattern is not None:
        kinds = pattern
    elif kinds is None:
        frequency = max(_whole(values, "index_topk_freq", 1), 1)
        offset = _whole(values, "index_skip_topk_offset", 2)
        kinds = ["shared" if max(i - offset + 1, 0) % frequency else "full" for i in range(num_layers)]
    checked = _per_layer("indexer_types", kinds, {"full", "shared"}, num_layers)
    if checked[0] == "shared":
        raise ConfigError(
            f"config.json: indexer_types begins with 'shared', but nothing is before it; {_CURE}", "config_layers"
        )
    return checked


def eos_token_ids(values: dict[str, Any]) -> tuple[int, ...]:
    """Return the ids that end an answer; the key may hold one, a list or nothing."""
    ids = values.get("eos_token_id")
    listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if not all(isinstance(token, int) and token >= 0 for token in listed):
        raise ConfigError(f"config.json: eos_token_id is {ids!r}, not a list of token ids; {_CURE}")
    return tuple(listed)


def mtp_layers(values: dict[str, Any]) -> int:
    """Return how many layers for multi-token prediction the model was trained with: 0 or 1.

    Raises:
        ConfigError: there are more.
    """
    layers = values.get("num_nextn_predict_layers") or 0
    if layers not in (0, 1):
        raise ConfigError(f"config.json: num_nextn_predict_layers is {layers!r}, only 0 and 1 are known; {_CURE}")
    return int(layers)


def _whole(values: dict[str, Any], key: str, default: int | None) -> int:
    """Return the integer under `key`, which may be zero, or `default` where the key is absent."""
    value = values.get(key)
    if value is None and default is not None:
        return default
    value = _required(values, key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"config.json: {key} is {value!r}, not an integer; {_CURE}")
    return value


def _required(values: dict[str, Any], key: str) -> Any:
    """Return the value under `key`, or say that it is missing."""
    if values.get(key) is None:
        raise ConfigError(f"config.json: key {key} is missing; {_CURE}", "config_key_missing")
    return values[key]


def _per_layer(key: str, kinds: Any, allowed: set[str], num_layers: int) -> tuple[str, ...]:
    """Return `kinds` if it has one allowed word per layer."""
    if not isinstance(kinds, list | tuple) or len(kinds) != num_layers:
        length = len(kinds) if isinstance(kinds, list | tuple) else repr(kinds)
        raise ConfigError(f"config.json: {key} has {length} entries for {num_layers} layers; {_CURE}", "config_layers")
    strange = next((kind for kind in kinds if kind not in allowed), None)
    if strange is not None:
        raise ConfigError(
            f"config.json: {key} holds {strange!r}, not one of {sorted(allowed)}; {_CURE}", "config_layers"
        )
    return tuple(kinds)
