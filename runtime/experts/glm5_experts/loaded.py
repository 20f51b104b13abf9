"""What a shard has in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from glm5.v1 import peer_pb2
from glm5_model.checkpoint import load_experts, model_digest
from glm5_model.config import ModelConfig
from glm5_model.errors import ModelError
from glm5_model.experts import ExpertWeights
from glm5_model.kernels import Kernels, kernels_for, resolve_dtype
from glm5_spec.compat import compat
from glm5_spec.placement import slice_of
from glm5_spec.settings import ShardSettings
from glm5_wire.errors import StartupError

Run = tuple[int, int, int]
"""Layer, first expert, count."""


@dataclass(frozen=True)
class Loaded:
    """The slice of a shard and what follows from it."""

    config: ModelConfig
    weights: ExpertWeights
    kernels: Kernels
    dtype: torch.dtype
    digest: str
    compat: str
    slice: str
    """The experts for people, for example `0-63`."""
    held: dict[int, tuple[int, ...]]
    """Experts by layer."""
    runs: list[Run]
    holdings: list[peer_pb2.ExpertRange] = field(repr=False)


def load(settings: ShardSettings, progress: Callable[[float], None]) -> Loaded:
    """Load the shard's slice of the checkpoint.

    Raises:
        StartupError: the checkpoint or a setting is wrong.
    """
    torch.set_num_threads(settings.num_threads)
    try:
        config = ModelConfig.from_dir(settings.model_path)
        own = slice_of(settings.shard, settings.num_shards, config.num_experts)
        dtype = resolve_dtype(settings.dtype, settings.device)
        kernels = kernels_for(settings.device, settings.numerics, dtype)
        kernels.self_test()
        weights = load_experts(settings.model_path, own, dtype, progress, kernels.device, kernels.widens)
        digest = model_digest(settings.model_path)
    except (ModelError, ValueError) as error:
        raise StartupError(f"shard {settings.name}: {error}") from error
    held = {layer: tuple(weights.experts(layer)) for layer in weights.layers}
    runs = [(layer, *run) for layer, experts in held.items() for run in _runs(experts)]
    return Loaded(
        config=config,
        weights=weights,
        kernels=kernels,
        dtype=dtype,
        digest=digest,
        compat=compat(digest, settings.weight_version, str(dtype).removeprefix("torch."), settings.numerics),
        slice=f"{own.start}-{own.stop - 1}",
        held=held,
        runs=runs,
        holdings=[peer_pb2.ExpertRange(layer=layer, first=first, count=count) for layer, first, count in runs],
    )


def _runs(experts: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield first and count of each run of consecutive ids."""
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(experts), 1) if b != a + 1), len(experts)]
    for start, end in pairwise(breaks):
        if end > start:
            yield experts[start], end - start
