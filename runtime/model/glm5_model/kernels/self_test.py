"""The start-up check of `invariant`: single rows have the bits that they have in a batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from glm5_model.errors import NumericsError
from glm5_model.kernels.base import Kernels
from glm5_model.kernels.probe import probe_values, same_bits

_ROWS = 32
_PARTS = (slice(0, 1), slice(7, 8), slice(3, 6), slice(5, 28))

Trial = Callable[[slice], Tensor]


def require_invariance(kernels: Kernels) -> None:
    """Check products, functions and reductions of `kernels`.

    Raises:
        NumericsError: one of them depends on a row's neighbours on this machine.
    """
    for name, trial in _trials(kernels).items():
        whole = trial(slice(0, _ROWS))
        for part in _PARTS:
            if not same_bits(trial(part), whole[part]):
                raise NumericsError(
                    f"{name}: rows {part.start} to {part.stop - 1} depend on their neighbours on this machine (torch "
                    f"{torch.__version__}, {kernels.device}); set numerics to 'fast', or use another build of torch"
                )


def _trials(kernels: Kernels) -> dict[str, Trial]:
    """Return what is tried, by name; odd widths, so that tensors end in the middle of a vector."""
    rows = probe_values(_ROWS, 203, dtype=torch.float32, device=kernels.device)
    heads = probe_values(_ROWS, 8, 48, dtype=torch.float32, device=kernels.device)
    keys = probe_values(_ROWS, 64, 48, dtype=torch.float32, device=kernels.device, seed=6)
    shares = probe_values(_ROWS, 8, 64, dtype=torch.float32, device=kernels.device)
    typed = rows[:, :192].to(kernels.dtype)
    weight = probe_values(192, 80, dtype=kernels.dtype, device=kernels.device)
    return {
        "linear": lambda part: kernels.linear(typed[part], weight),
        "per_head": lambda part: kernels.per_head(heads[part], keys[:8, :48]),
        "scores": lambda part: kernels.scores(heads[part], keys[part]),
        "scores of shared keys": lambda part: kernels.scores(heads[part], keys[:1]),
        "mix": lambda part: kernels.mix(shares[part], keys[part]),
        "mix of shared values": lambda part: kernels.mix(shares[part], keys[:1]),
        "silu": lambda part: kernels.silu(rows[part]),
        "sigmoid": lambda part: kernels.sigmoid(rows[part]),
        "exp": lambda part: rows[part].clone().exp_(),
        "rsqrt": lambda part: rows[part].square().rsqrt_(),
        "sum": lambda part: rows[part].sum(-1, keepdim=True),
        "amax": lambda part: rows[part].amax(-1, keepdim=True),
        "layer_norm": lambda part: torch.layer_norm(typed[part], (192,), None, None, 1e-6),
    }
