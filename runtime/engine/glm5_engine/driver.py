"""Runs the model's generators: computes between their requests, and lets the expert shards work meanwhile.

Everything runs on the event loop's thread while it is short, because a hop to another thread and back costs more than
a small layer computes; longer sections go to the one step thread, so that the loop stays awake. Which is which is
measured, by a moving average per section of the forward pass and size of the batch. Two generators at once are the
ping-pong pipeline: one computes while the other waits for its experts.
"""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from glm5_model.exchange import Collect, Dispatch

INLINE_SECONDS = 0.003
"""A section that is expected to take longer leaves the event loop."""
_WEIGHT_SHORTER = 0.5
_WEIGHT_LONGER = 0.1
"""Weights of a new measurement: what takes longer than usual was mostly disturbed, what is shorter was not."""
_FEW_ROWS = 4
"""Batches up to this size run inline until they are measured."""

T = TypeVar("T")
Forward = Generator[Dispatch | Collect, Tensor | None, Tensor]
Key = tuple[object, int]


class Experts(Protocol):
    """What the driver needs of glm5_wire's ExpertPool."""

    def send(self, dispatch: Dispatch, lane: str, traceparent: str = "") -> Any:
        """Send rows to the shards and return what `collect` takes."""

    async def collect(self, pending: Any) -> Tensor:
        """Return the routed sum [n, hidden].

        Raises:
            ServiceError: no shard answered within the deadline.
        """


class Driver:
    """One worker's computing.

    Args:
        experts: sends rows to the shards.
        lane: "decode" or "prefill".
        num_threads: of torch, in the step thread.
    """

    def __init__(self, experts: Experts, lane: str, num_threads: int = 1) -> None:
        self._experts, self._lane = experts, lane
        self._thread = ThreadPoolExecutor(1, "step", initializer=torch.set_num_threads, initargs=(num_threads,))
        self._num_in_thread = 0
        self._sections = 0
        self._seconds: dict[Key, float] = {}

    @property
    def progress(self) -> int:
        """Return a counter that stands still only while one section computes: waiting and idling are progress too."""
        if not self._num_in_thread:
            self._sections += 1
        return self._sections

    def close(self) -> None:
        """End the step thread."""
        self._thread.shutdown(wait=True)

    async def run(self, forward: Forward, num_rows: int, traceparent: str = "") -> Tensor:
        """Return the logits that `forward` computes from a batch of `num_rows` rows."""
        size, section = num_rows.bit_length(), 0
        pending: dict[int, Any] = {}
        value: Tensor | None = None
        try:
            while True:
                wanted = await self.compute((section, size), lambda sent=value: _advance(forward, sent))  # type: ignore[misc]
                section += 1
                if isinstance(wanted, Dispatch):
                    pending[wanted.layer] = self._experts.send(wanted, self._lane, traceparent)
                    value = None
                    await asyncio.sleep(0)  # the rows go out now, not after the next section
                elif isinstance(wanted, Collect):
                    value = await self._experts.collect(pending.pop(wanted.layer))
                else:
                    return wanted
        finally:
            forward.close()

    async def compute(self, key: Key, section: Callable[[], T]) -> T:
        """Return what `section` returns, run here if that is expected to be short, else in the step thread.

        Args:
            key: what it is, and the bit length of its number of rows; equal keys are expected to take equally long.
            section: does not touch the event loop.
        """
        if not self._num_in_thread and self._is_short(key):
            return self._timed(key, section)
        return await self._in_thread(key, section)

    async def _in_thread(self, key: Key, section: Callable[[], T]) -> T:
        """Run `section` in the step thread; a cancelled caller still waits for its end, for it writes to pages."""
        self._num_in_thread += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._timed, key, section)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await settled(future)
            raise
        finally:
            self._num_in_thread -= 1

    def _is_short(self, key: Key) -> bool:
        expected = self._seconds.get(key)
        return key[1] <= _FEW_ROWS.bit_length() if expected is None else expected < INLINE_SECONDS

    def _timed(self, key: Key, section: Callable[[], T]) -> T:
        """Run `section`, note how long it took, and count it."""
        start = perf_counter()
        result = section()
        seconds = perf_counter() - start
        usual = self._seconds.get(key, seconds)
        weight = _WEIGHT_LONGER if seconds > usual else _WEIGHT_SHORTER
        self._seconds[key] = usual + (seconds - usual) * weight
        self._sections += 1
        return result


async def settled(*futures: asyncio.Future[Any]) -> None:
    """Wait for the end of all `futures`, however often the caller is cancelled meanwhile; then pass that on."""
    is_cancelled = False
    while pending := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


def _advance(forward: Forward, value: Tensor | None) -> Dispatch | Collect | Tensor:
    """Return the generator's next request, or its result: StopIteration cannot pass through a future.

    What goes to the experts comes to the CPU here, where waiting for a device does not hold the event loop up.
    """
    try:
        wanted = forward.send(value)
        return _on_cpu(wanted) if isinstance(wanted, Dispatch) else wanted
    except StopIteration as end:
        logits: Tensor = end.value
        return logits.cpu()


def _on_cpu(dispatch: Dispatch) -> Dispatch:
    """Return `dispatch` in the CPU's memory."""
    if dispatch.rows.device.type == "cpu":
        return dispatch
    return Dispatch(dispatch.layer, dispatch.rows.cpu(), dispatch.expert_ids.cpu(), dispatch.gates.cpu())
