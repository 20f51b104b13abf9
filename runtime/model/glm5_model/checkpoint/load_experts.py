"""Loading a shard's part: some routed experts of every sparse layer, the MTP layer included."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from glm5_model import names
from glm5_model.checkpoint.reader import Checkpoint
from glm5_model.config import ModelConfig
from glm5_model.errors import NotHeld
from glm5_model.experts import ExpertWeights, LayerExperts

Progress = Callable[[float], None]


def load_experts(
    path: str | Path,
    experts: Iterable[int],
    dtype: torch.dtype,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
    widens: bool = False,
) -> ExpertWeights:
    """Return the given experts of every sparse layer of the checkpoint at `path`; only their ranges are read.

    Args:
        path: a checkpoint folder.
        experts: logical expert ids.
        dtype: element type to compute in.
        progress: is told the share that is loaded, from 0 to 1, after each layer.
        device: where the weights go, expert by expert.
        widens: what multiplies takes bfloat16 where rows are float32; then layers that the checkpoint has in bfloat16
            stay so.

    Raises:
        ConfigError: config.json describes another model.
        CheckpointError: a tensor is missing or damaged.
        NotHeld: the model has no such expert.
    """
    config = ModelConfig.from_dir(path)
    wanted = tuple(sorted(set(experts)))
    for expert in wanted:
        if not 0 <= expert < config.num_experts:
            raise NotHeld(config.moe_layers[0] if config.moe_layers else 0, expert, tuple(range(config.num_experts)))
    with Checkpoint(path) as checkpoint:
        with_mtp = config.num_mtp_layers > 0 and checkpoint.has_prefix(names.layer_prefix(config.num_layers))
        layers = names.expert_layers(config, with_mtp)
        loaded = {}
        for done, layer in enumerate(layers, 1):
            held_as = _held_as(checkpoint, layer, wanted) if widens else dtype
            loaded[layer] = _layer(checkpoint, config, layer, wanted, held_as, torch.device(device))
            if progress:
                progress(done / len(layers))
    return ExpertWeights(loaded)


def _held_as(checkpoint: Checkpoint, layer: int, experts: tuple[int, ...]) -> torch.dtype:
    """Return the type that holds the experts of a layer exactly: bfloat16 where all are stored so, else float32."""
    names_of = (f"{names.expert_prefix(layer, e)}{part}.weight" for e in experts for part in names.PROJECTIONS)
    return torch.bfloat16 if all(checkpoint.is_bfloat16(name) for name in names_of) else torch.float32


def _layer(
    checkpoint: Checkpoint,
    config: ModelConfig,
    layer: int,
    experts: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> LayerExperts:
    """Return the experts of one layer, [in, out] like every product's weight."""
    hidden, width = config.hidden_size, config.moe_intermediate_size
    gate_up = torch.empty(len(experts), hidden, 2 * width, dtype=dtype, device=device)
    down = torch.empty(len(experts), width, hidden, dtype=dtype, device=device)
    for slot, expert in enumerate(experts):
        prefix = names.expert_prefix(layer, expert)
        gate_up[slot, :, :width] = checkpoint.read(prefix + "gate_proj.weight", (width, hidden), dtype).t()
        gate_up[slot, :, width:] = checkpoint.read(prefix + "up_proj.weight", (width, hidden), dtype).t()
        down[slot] = checkpoint.read(prefix + "down_proj.weight", (hidden, width), dtype).t()
    return LayerExperts(experts, gate_up, down)
