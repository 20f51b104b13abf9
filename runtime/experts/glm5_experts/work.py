"""One batch as a shard knows it, from the queue to the answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from glm5.v1 import expert_service_pb2 as pb

Lane: TypeAlias = "pb.Lane.ValueType"
Answer = Callable[[pb.StreamResponse], None]
"""Takes the one answer to a batch; called on the event loop."""


@dataclass(eq=False, slots=True)
class Work:
    """A batch that has been checked."""

    sequence: int
    layer: int
    lane: Lane
    rows: Tensor
    """[n, hidden]."""
    pair_rows: npt.NDArray[np.int64]
    """[P] indices into `rows`."""
    pair_experts: npt.NDArray[np.int64]
    """[P] logical ids."""
    gates: npt.NDArray[np.float32]
    """[P]."""
    reduced: bool
    """One weighted sum per row instead of one output per pair."""
    num_bytes: int
    """What it takes in the queue."""
    received: float
    """Monotonic seconds."""
    expires: float
    """Monotonic seconds after which nobody wants the answer; infinity for never."""
    answer: Answer
    traceparent: str = ""
    cancelled: bool = field(default=False)

    @property
    def num_rows(self) -> int:
        """Return n."""
        return int(self.rows.shape[0])
