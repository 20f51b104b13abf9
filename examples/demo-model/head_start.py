"""A start that makes copying easy to learn.

To copy the right word, a layer has to know what stands before it in the prompt, and for that an earlier layer must
have looked back. Training finds this pair of layers late. Here three heads of the first layer look at the last three
places from the beginning; everything else is learned.
"""

import torch
from torch import Tensor
from transformers import GlmMoeDsaConfig, GlmMoeDsaForCausalLM

EMBEDDING = 0.5  # standard deviation: tokens must stand out from what the first layers add
SHARPNESS = 5.0  # size of the rotated parts of queries and keys; their product decides how sharp the look back is


@torch.no_grad()
def look_back(model: GlmMoeDsaForCausalLM) -> None:
    """Change the fresh weights of the embedding and of the first layer's attention in place."""
    config, attention = model.config, model.model.layers[0].self_attn
    embedding = model.model.embed_tokens.weight
    embedding.normal_(std=EMBEDDING)
    embedding[:, 0] = 2 * EMBEDDING  # one dimension that is the same for every token; about 2 after the norm
    attention.q_a_proj.weight[0] = 0.0
    attention.q_a_proj.weight[0, 0] = 5.0  # it is the largest part of each query latent, about 7 after the norm
    keys = attention.kv_a_proj_with_mqa.weight[config.kv_lora_rank :]  # [rope, hidden]
    keys.zero_()
    keys[0::2, 0] = SHARPNESS / 2
    queries = attention.q_b_proj.weight.unflatten(0, (config.num_attention_heads, -1))  # [heads, nope + rope, latent]
    for head, distance in enumerate((1, 2, 3)):
        queries[head] = 0.0
        queries[head, config.qk_nope_head_dim :, 0] = SHARPNESS / 7 * _turned(config, distance)


def _turned(config: GlmMoeDsaConfig, distance: int) -> Tensor:
    """Return the query whose product with the key (1, 0, 1, 0, ...) is largest `distance` places back, [rope]."""
    width = config.qk_rope_head_dim
    frequencies = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2) / width)
    angles = distance * frequencies
    return torch.stack([angles.cos(), -angles.sin()], dim=-1).flatten()
