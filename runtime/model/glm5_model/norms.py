"""Root-mean-square normalisation."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(values: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return values [..., d] normalised in float32, cast to their dtype, then multiplied by `weight` [d].

    The order matters in bfloat16 and is that of the Hugging Face class.
    """
    if values.dtype == torch.float32:
        return F.rms_norm(values, (values.shape[-1],), weight, eps)
    wide = values.to(torch.float32)
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * scaled.to(values.dtype)
