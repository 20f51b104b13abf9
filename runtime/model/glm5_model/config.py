"""The architecture of a checkpoint, read from its config.json and checked whole."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from glm5_model import config_fields as fields
from glm5_model.errors import ConfigError


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and per-layer lists of a `glm_moe_dsa` model. Nothing is derived from names or counts."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    intermediate_size: int
    """Width of the dense layers."""
    moe_intermediate_size: int
    """Width of one routed expert, and of one shared expert."""
    num_experts: int
    num_experts_per_tok: int
    num_shared_experts: int
    routed_scaling_factor: float
    norm_topk_prob: bool
    mlp_layer_types: tuple[str, ...]
    """"dense" or "sparse", one per layer."""
    indexer_types: tuple[str, ...]
    """"full" or "shared", one per layer; a shared layer reuses the last full layer's selection."""
    index_n_heads: int
    index_head_dim: int
    index_topk: int
    rope_theta: float
    max_position_embeddings: int
    rms_norm_eps: float
    latent_norm_eps: float
    """Epsilon of the two latent norms: key `mla_latent_norm_eps`, else 1e-6 as in transformers (slime has 1e-5)."""
    eos_token_ids: tuple[int, ...]
    num_mtp_layers: int
    dtype: str
    """Type of the stored weights, as the file says; the tensors' own headers decide when loading."""

    @classmethod
    def from_dir(cls, path: str | Path) -> Self:
        """Return the config of the checkpoint folder `path`.

        Raises:
            ConfigError: config.json is missing, is not JSON, or describes another model.
        """
        file = Path(path) / "config.json"
        try:
            values = json.loads(file.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"cannot read {file}: {error.strerror}; check the model path", "config_missing"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{file} is not JSON: {error}; download the file again", "config_not_json") from error
        if not isinstance(values, dict):
            raise ConfigError(
                f"{file} holds a {type(values).__name__}, not an object; download the file again", "config_not_json"
            )
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the config described by the parsed config.json `values`.

        Raises:
            ConfigError: a key is missing or wrong, or the model needs what this runtime does not compute.
        """
        fields.require_supported(values)
        num_layers = fields.count(values, "num_hidden_layers")
        config = cls(
            num_layers=num_layers,
            num_heads=fields.count(values, "num_attention_heads"),
            num_experts=fields.count(values, "num_experts" if values.get("num_experts") else "n_routed_experts"),
            num_shared_experts=fields.count(values, "n_shared_experts"),
            routed_scaling_factor=fields.number(values, "routed_scaling_factor"),
            norm_topk_prob=bool(values.get("norm_topk_prob", True)),
            mlp_layer_types=fields.mlp_layer_types(values, num_layers),
            indexer_types=fields.indexer_types(values, num_layers),
            rope_theta=fields.rope_theta(values),
            rms_norm_eps=fields.number(values, "rms_norm_eps"),
            latent_norm_eps=fields.number(values, "mla_latent_norm_eps", 1e-6),
            eos_token_ids=fields.eos_token_ids(values),
            num_mtp_layers=fields.mtp_layers(values),
            dtype=str(values.get("dtype") or values.get("torch_dtype") or "bfloat16"),
            **{key: fields.count(values, key) for key in fields.COUNTS},
        )
        config.check()
        return config

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Return the indices of the layers with routed experts, without the MTP layer."""
        return tuple(i for i, kind in enumerate(self.mlp_layer_types) if kind == "sparse")

    @property
    def full_layers(self) -> tuple[int, ...]:
        """Return the indices of the layers that own an indexer, without the MTP layer."""
        return tuple(i for i, kind in enumerate(self.indexer_types) if kind == "full")

    @property
    def qk_head_dim(self) -> int:
        """Return the width of one query head: without and with rotation."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_width(self) -> int:
        """Return the numbers cached per token and layer: the latent and the rotated shared key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    def check(self) -> None:
        """Refuse sizes that contradict each other.

        Raises:
            ConfigError: the first contradiction, with both values.
        """
        if self.qk_rope_head_dim % 2 or self.qk_rope_head_dim > self.index_head_dim:
            raise ConfigError(
                f"config.json: qk_rope_head_dim {self.qk_rope_head_dim} must be even and at most index_head_dim "
                f"{self.index_head_dim}; use the config.json that came with the weights"
            )
        if self.num_experts_per_tok > self.num_experts:
            raise ConfigError(
                f"config.json: num_experts_per_tok {self.num_experts_per_tok} is more than the {self.num_experts} "
                "experts; use the config.json that came with the weights"
            )
