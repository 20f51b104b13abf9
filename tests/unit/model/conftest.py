"""Tiny checkpoints written by transformers itself, and the reference models they came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GlmMoeDsaConfig, GlmMoeDsaForCausalLM

from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.checkpoint import load_attention, load_experts
from glm5_model.config import ModelConfig
from glm5_model.experts import ExpertWeights
from glm5_model.kernels import Kernels, kernels_for
from glm5_model.kernels.invariant import InvariantKernels
from glm5_model.kernels.native.kernels import NativeKernels
from glm5_model.local import run_local
from glm5_model.transformer import Transformer

NANO: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "first_k_dense_replace": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "q_lora_rank": 48,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "index_n_heads": 16,
    "index_head_dim": 16,
    "index_topk": 32,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "eos_token_id": [1, 2],
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "5.0": {},
    "5.2": {"indexer_types": ["full", "full", "shared", "shared", "full"]},
}


@dataclass
class Reference:
    """A checkpoint on disk and the transformers model that wrote it."""

    path: Path
    config: ModelConfig
    model: GlmMoeDsaForCausalLM

    def logits(self, token_ids: Tensor) -> Tensor:
        """Return transformers' logits of one sequence, [T, vocab]."""
        with torch.no_grad():
            logits: Tensor = self.model(token_ids[None], use_cache=False).logits[0]
        return logits


@dataclass
class Served:
    """The same checkpoint in this project's hands, with every expert at home."""

    transformer: Transformer
    experts: ExpertWeights
    kernels: Kernels
    config: ModelConfig

    def cache(self, pages: int = 64) -> PagedCache:
        """Return an empty cache."""
        return PagedCache(self.config, pages, self.kernels.dtype)

    def run(self, cache: PagedCache, *sequences: SequenceRows) -> Tensor:
        """Return the logits that the sequences want."""
        return run_local(self.transformer.forward(Batch(list(sequences)), cache), self.experts, self.kernels)

    def chunked(self, token_ids: Tensor, chunks: list[int], cache: PagedCache, table: Tensor) -> Tensor:
        """Return the logits of a sequence computed in chunks of the given lengths, [T, vocab]."""
        parts, start = [], 0
        for length in chunks:
            parts.append(self.run(cache, SequenceRows(token_ids[start : start + length], start, table, "all")))
            start += length
        assert start == token_ids.shape[0]
        return torch.cat(parts)


def make_reference(path: Path, seed: int = 0, **changes: Any) -> Reference:
    """Write a checkpoint of random numbers in which nothing is neutral, so that every mistake shows."""
    torch.manual_seed(seed)
    config = GlmMoeDsaConfig(**(NANO | changes))
    config._attn_implementation = "eager"
    model = GlmMoeDsaForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("inv_freq"):
                continue
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif "bias" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * 1.2 / parameter.shape[-1] ** 0.5)
    model.save_pretrained(path)
    return Reference(path, ModelConfig.from_dir(path), model)


def serve(
    path: Path, dtype: torch.dtype = torch.float32, numerics: str = "invariant", widens: bool | None = None
) -> Served:
    """Load a checkpoint; `widens` as the kernels do unless it is said."""
    config = ModelConfig.from_dir(path)
    kernels = kernels_for("cpu", numerics, dtype)
    widens = kernels.widens if widens is None else widens
    experts = load_experts(path, range(config.num_experts), dtype, widens=widens)
    return Served(Transformer(config, load_attention(path, dtype, widens=widens), kernels), experts, kernels, config)


def tokens(length: int, seed: int = 1, vocab: int = 96) -> Tensor:
    """Return a random sequence."""
    return torch.randint(0, vocab, (length,), generator=torch.Generator().manual_seed(seed))


def page_table(length: int, first: int = 0) -> Tensor:
    """Return successive pages for `length` tokens, from page `first` on."""
    return torch.arange(first, first - (-length // PAGE_SIZE))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=list(VARIANTS))
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Return both variants of the family in turn."""
    return make_reference(tmp_path_factory.mktemp("checkpoint") / "model", **VARIANTS[request.param])


@pytest.fixture(scope="session", params=["compiled", "plain"])
def served(request: pytest.FixtureRequest, reference: Reference) -> Served:
    """Return the reference's checkpoint, loaded, for the compiled kernels and for those that serve every device."""
    served = serve(reference.path)
    assert isinstance(served.kernels, NativeKernels), "this machine's compiled kernels were not found"
    if request.param == "compiled":
        return served
    kernels = InvariantKernels(torch.device("cpu"), torch.float32)
    return Served(
        Transformer(served.config, served.transformer.weights, kernels), served.experts, kernels, served.config
    )


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint in one float32 file."""
    return make_reference(tmp_path_factory.mktemp("plain") / "model").path
