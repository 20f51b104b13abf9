"""What an attention worker has in memory once its weights are loaded."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glm5_engine.facts import Facts
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.checkpoint import load_attention, model_digest
from glm5_model.config import ModelConfig
from glm5_model.errors import ModelError
from glm5_model.kernels import Kernels, kernels_for, resolve_dtype
from glm5_model.transformer import Transformer
from glm5_spec.compat import compat
from glm5_spec.settings import WorkerSettings
from glm5_wire.errors import StartupError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The attention part of a model, ready to compute."""

    config: ModelConfig
    transformer: Transformer
    cache: PagedCache
    kernels: Kernels
    facts: Facts
    digest: str
    compat: str
    dtype: torch.dtype


def load(settings: WorkerSettings, progress: Callable[[float], None]) -> Loaded:
    """Read the attention part of the checkpoint and make room for the cache; runs in a thread.

    Args:
        settings: of the worker.
        progress: is told the share that is loaded.

    Raises:
        StartupError: the checkpoint is damaged or the machine cannot compute it as asked.
    """
    torch.set_num_threads(settings.num_threads)
    try:
        return _load(settings, progress)
    except ModelError as error:
        raise StartupError(f"model {settings.model_path}: {error}") from error
    except OSError as error:
        raise StartupError(f"model {settings.model_path}: {error}; check model_path") from error


def _load(settings: WorkerSettings, progress: Callable[[float], None]) -> Loaded:
    config = ModelConfig.from_dir(settings.model_path)
    digest = model_digest(settings.model_path)
    dtype = resolve_dtype(settings.dtype, settings.device)
    kernels = kernels_for(settings.device, settings.numerics, dtype)
    kernels.self_test()
    weights = load_attention(settings.model_path, dtype, progress, kernels.device, kernels.widens)
    cache = PagedCache(config, settings.cache_tokens // PAGE_SIZE, dtype, kernels.device)
    name = str(dtype).removeprefix("torch.")
    own = compat(digest, settings.weight_version, name, settings.numerics)
    log.info("loaded model=%s device=%s dtype=%s numerics=%s compat=%s pages=%d", settings.model_path,
             kernels.device, name, settings.numerics, own, cache.num_pages)  # fmt: skip
    transformer = Transformer(config, weights, kernels)
    return Loaded(config, transformer, cache, kernels, _facts(settings, config, cache), digest, own, dtype)


def _facts(settings: WorkerSettings, config: ModelConfig, cache: PagedCache) -> Facts:
    """Return vocabulary, stop ids and the longest sequence: what the model allows and the pool holds."""
    longest = min(config.max_position_embeddings, cache.num_pages * PAGE_SIZE)
    vocab_size = min(config.vocab_size, num_tokens(Path(settings.model_path)) or config.vocab_size)
    return Facts(vocab_size, tuple(config.eos_token_ids), longest)


def num_tokens(model: Path) -> int | None:
    """Return how many ids the tokenizer of the checkpoint knows, or None where it has no tokenizer.json.

    The model has more rows than that; the rest is padding, which must never be drawn.

    Raises:
        StartupError: tokenizer.json cannot be understood.
    """
    path = model / "tokenizer.json"
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        ids = [token["id"] for token in content.get("added_tokens", [])]
        vocabulary = content["model"]["vocab"]
        ids += vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        return int(max(ids)) + 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(f"{path}: no vocabulary to read ({error}); download tokenizer.json again") from error
