"""What is wrong with a checkpoint's numbers: multipliers and small tensors are read and must be finite."""

from collections.abc import Iterator

import torch

from glm5_model.checkpoint.reader import Checkpoint
from glm5_model.errors import CheckpointError
from glm5_model.names import SCALE_SUFFIX

_SMALL_BYTES = 64 << 10
"""Norms and biases are below it even in the largest model; a NaN there spoils every token."""


def value_errors(checkpoint: Checkpoint) -> Iterator[CheckpointError]:
    """Yield every tensor of `checkpoint` in which a number is not what it may be."""
    for name, info in checkpoint.tensors.items():
        weight = name.removesuffix(SCALE_SUFFIX)
        try:
            of = checkpoint.tensors.get(weight)
            if weight != name and of is not None and len(of.shape) == 2:
                checkpoint.scale(weight, of.shape)
            elif info.num_bytes <= _SMALL_BYTES and info.type_name in ("F32", "BF16", "F16"):
                _require_finite(checkpoint, name)
        except CheckpointError as error:
            yield error


def _require_finite(checkpoint: Checkpoint, name: str) -> None:
    """Raise if a number of a small tensor is NaN or infinite."""
    info = checkpoint.tensors[name]
    values = checkpoint.stored(name)
    if not bool(torch.isfinite(values).all()):
        cure = "download the file again"
        raise CheckpointError(info.file, name, "holds a number that is NaN or infinite", cure, "not_finite")
