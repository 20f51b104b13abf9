"""config.json is read by its lists, and what cannot be computed is refused with place and cure."""

from typing import Any

import pytest

from glm5_model.config import ModelConfig
from glm5_model.errors import ConfigError

GLM5: dict[str, Any] = {
    "model_type": "glm_moe_dsa",
    "vocab_size": 154880,
    "hidden_size": 6144,
    "num_hidden_layers": 78,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "q_lora_rank": 2048,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "v_head_dim": 256,
    "head_dim": 64,
    "intermediate_size": 12288,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "n_group": 1,
    "topk_group": 1,
    "index_n_heads": 32,
    "index_head_dim": 128,
    "index_topk": 2048,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
    "max_position_embeddings": 202752,
    "rms_norm_eps": 1e-5,
    "num_nextn_predict_layers": 1,
    "eos_token_id": [154820, 154827, 154829],
    "dtype": "bfloat16",
}
GLM52 = GLM5 | {
    "index_topk_freq": 4,
    "index_skip_topk_offset": 3,
    "index_topk_pattern": None,
    "max_position_embeddings": 1048576,
    "rope_parameters": {"rope_theta": 8000000, "rope_type": "default"},
    "head_dim": 192,
}


def test_glm5_has_an_indexer_in_every_layer() -> None:
    config = ModelConfig.from_dict(GLM5)
    assert config.full_layers == tuple(range(78))
    assert config.moe_layers == tuple(range(3, 78))
    assert config.rope_theta == 1e6
    assert config.latent_norm_eps == 1e-6
    assert config.eos_token_ids == (154820, 154827, 154829)
    assert config.num_mtp_layers == 1


def test_glm52_shares_a_selection_between_four_layers() -> None:
    config = ModelConfig.from_dict(GLM52)
    assert config.full_layers == (0, 1, 2, *range(6, 75, 4))
    assert len(config.full_layers) == 21
    assert config.rope_theta == 8e6


@pytest.mark.parametrize(
    ("changes", "full"),
    [
        ({"indexer_types": ["full", "shared", "full", "shared"], "index_topk_freq": 9}, (0, 2)),
        ({"index_topk_pattern": "FFSS"}, (0, 1)),
        ({"index_topk_pattern": ["full", "full", "full", "shared"]}, (0, 1, 2)),
        ({"index_topk_freq": 2, "index_skip_topk_offset": 2}, (0, 1, 3)),
        ({}, (0, 1, 2, 3)),
    ],
)
def test_a_list_wins_over_a_pattern_and_a_pattern_over_a_rule(changes: dict[str, Any], full: tuple[int, ...]) -> None:
    assert ModelConfig.from_dict(GLM5 | {"num_hidden_layers": 4} | changes).full_layers == full


def test_a_list_of_layer_kinds_wins_over_a_count() -> None:
    kinds = ["dense", "sparse", "dense", "sparse"]
    config = ModelConfig.from_dict(GLM5 | {"num_hidden_layers": 4, "mlp_layer_types": kinds})
    assert config.moe_layers == (1, 3)


def test_theta_may_stand_at_the_top_and_one_eos_alone() -> None:
    config = ModelConfig.from_dict(GLM5 | {"rope_parameters": None, "rope_theta": 7.0, "eos_token_id": 5})
    assert (config.rope_theta, config.eos_token_ids) == (7.0, (5,))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "glm5_next"}, "glm5_next.*linear attention.*glm_moe_dsa"),
        ({"model_type": None}, "None"),
        ({"scoring_func": "softmax"}, "scoring_func is 'softmax'"),
        ({"topk_group": 4}, "topk_group is 4"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "yarn"),
        ({"rope_parameters": {}}, "rope_theta is missing"),
        ({"rope_parameters": 7}, "rope_parameters is 7"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "big"}, "hidden_size is 'big'"),
        ({"num_experts_per_tok": 300}, "num_experts_per_tok 300"),
        ({"qk_rope_head_dim": 130}, "qk_rope_head_dim 130"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"mlp_layer_types": ["dense"]}, "1 entries for 78 layers"),
        ({"indexer_types": ["full"] * 77 + ["half"]}, "'half'"),
        ({"indexer_types": ["shared"] * 78}, "begins with 'shared'"),
        ({"num_nextn_predict_layers": 2}, "num_nextn_predict_layers is 2"),
        ({"eos_token_id": ["a"]}, "eos_token_id"),
        ({"first_k_dense_replace": "three"}, "first_k_dense_replace is 'three'"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_place_and_cure(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        ModelConfig.from_dict(GLM5 | changes)
    assert str(caught.value).startswith("config.json: ")
    assert "; " in str(caught.value)
