"""The products and functions that the mathematics is made of, per device and numerics.

`invariant`: every result of a row depends on that row alone, bit by bit, whatever else is in the batch.
`fast`: whatever the library does best.
"""

from glm5_model.kernels.base import Kernels
from glm5_model.kernels.choose import kernels_for, resolve_dtype
from glm5_model.kernels.device import device_of
from glm5_model.kernels.grouped import LayerExperts

__all__ = ["Kernels", "LayerExperts", "device_of", "kernels_for", "resolve_dtype"]
