"""One batch as a shard knows it, from the queue to the answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from glm5.v1 import expert_service_pb2 as pb
from glm5_wire.tensors.messages import Task

Lane: TypeAlias = "pb.Lane.ValueType"
Answer = Callable[[pb.StreamResponse | bytes], None]
"""Takes the one answer to a batch, as a message or its bytes; called on the event loop."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """What a batch carries besides the experts."""

    rows: Tensor
    """[n, hidden]."""
    pair_rows: npt.NDArray[np.int64]
    """[P] indices into `rows`."""
    gates: npt.NDArray[np.float32]
    """[P]."""


@dataclass(eq=False)
class Work:
    """A batch that has been checked."""

    sequence: int
    layer: int
    lane: Lane
    num_rows: int
    pair_experts: npt.NDArray[np.integer[Any]]
    """[P] logical ids."""
    reduced: bool
    """One weighted sum per row instead of one output per pair."""
    num_bytes: int
    """What it takes in the queue."""
    received: float
    """Monotonic seconds."""
    expires: float
    """Monotonic seconds after which nobody wants the answer; infinity for never."""
    answer: Answer
    read: Callable[[], Arrays]
    task: Task | None = None
    """The same for the compiled library, where the batch is of the usual kind."""
    traceparent: str = ""
    cancelled: bool = field(default=False)

    @property
    def num_pairs(self) -> int:
        """Return P."""
        return len(self.pair_experts)

    @cached_property
    def arrays(self) -> Arrays:
        """Return what it carries; the compiled library does not need it."""
        return self.read()
