"""The demo model's shape, and its way to disk in the layout of the hub."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from head_start import look_back
from torch import Tensor
from transformers import AutoTokenizer, GlmMoeDsaConfig, GlmMoeDsaForCausalLM, PreTrainedTokenizerBase

from glm5_model.toy.config import config_json
from glm5_model.toy.sizes import ToySizes
from glm5_model.toy.tokenizer import Merges, num_tokens, stop_ids
from glm5_model.toy.write import write_checkpoint, write_json, write_tokenizer

NUM_MERGES = 1200
VARIANT = "5.0"


def config(merges: Merges) -> dict[str, Any]:
    """Return config.json: GLM-5 in small, with its 256 experts, and an index_topk that real prompts exceed."""
    sizes = ToySizes(
        hidden_size=128,
        num_dense_layers=1,
        num_sparse_layers=3,
        num_attention_heads=4,
        q_lora_rank=64,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        intermediate_size=384,
        moe_intermediate_size=16,
        index_n_heads=16,
        index_head_dim=32,
        index_topk=2048,
        vocab_size=-(-num_tokens(merges) // 64) * 64,
    )
    # Turns faster than GLM-5's theta of a million: with 8 pairs of dimensions, neighbours must differ in most of them.
    rope = {"rope_parameters": {"rope_theta": 10_000, "rope_type": "default"}}
    return config_json(sizes, VARIANT, "bfloat16", stop_ids(merges), mtp=False) | rope


def load_tokenizer(merges: Merges) -> PreTrainedTokenizerBase:
    """Return the tokenizer with its chat template, as transformers reads it."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), merges, VARIANT, ToySizes().max_position_embeddings)
        return AutoTokenizer.from_pretrained(folder)


def new_model(merges: Merges) -> GlmMoeDsaForCausalLM:
    """Return the untrained model in float32."""
    settings = config(merges) | {"initializer_range": 0.06, "dtype": "float32"}
    model = GlmMoeDsaForCausalLM(GlmMoeDsaConfig(**settings, attn_implementation="eager"))
    look_back(model)
    return model


def save(model: GlmMoeDsaForCausalLM, merges: Merges, folder: Path) -> None:
    """Write the checkpoint in bfloat16 into an existing folder."""
    settings = config(merges)
    write_checkpoint(folder, settings, _hub_tensors(model), merges, VARIANT, file_bytes=8 << 20)
    # Cooler than GLM-5's 1.0: a model this small means its first choice.
    generation = {"do_sample": True, "temperature": 0.3, "top_p": 0.95}
    stops = {"eos_token_id": settings["eos_token_id"], "pad_token_id": settings["pad_token_id"]}
    write_json(folder / "generation_config.json", generation | stops)


def _hub_tensors(model: GlmMoeDsaForCausalLM) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict().items():
        if name.endswith("e_score_correction_bias"):
            yield name, tensor.float()
        elif ".experts." in name:
            yield from _split(name, tensor.to(torch.bfloat16))
        else:
            yield name, tensor.to(torch.bfloat16)


def _split(name: str, fused: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield each expert's matrices: transformers holds all experts of a layer in one tensor, the hub does not."""
    prefix, kind = name.rsplit(".", 1)
    for expert, matrix in enumerate(fused):
        if kind == "down_proj":
            yield f"{prefix}.{expert}.down_proj.weight", matrix
        else:
            gate, up = matrix.chunk(2)
            yield f"{prefix}.{expert}.gate_proj.weight", gate
            yield f"{prefix}.{expert}.up_proj.weight", up
