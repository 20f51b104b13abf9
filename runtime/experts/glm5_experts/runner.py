"""The one loop that computes: takes coalesced batches, multiplies, answers."""

import asyncio
import contextlib
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import torch

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts import figures
from glm5_experts.load import Load
from glm5_experts.product import Product, Products
from glm5_experts.queue import Queue
from glm5_experts.refusal import Refusal
from glm5_experts.work import Work
from glm5_model.experts import ExpertWeights
from glm5_model.kernels import Kernels
from glm5_wire import tracing

log = logging.getLogger(__name__)

INLINE_SECONDS = 0.002
"""A product that is expected to take longer leaves the event loop: a thread hop costs about 0.1 ms there and back."""

_UNTRACED = contextlib.nullcontext()
_STEPS = 64
"""Sampled steps that are remembered; more are never under way at once."""


class Runner:
    """Computes what is queued.

    Args:
        weights: held here.
        kernels: how to multiply.
        load: counts rows.
        max_queue_bytes: bound of the queue.
        num_threads: of torch, in the step thread.
    """

    def __init__(
        self, weights: ExpertWeights, kernels: Kernels, load: Load, max_queue_bytes: int, num_threads: int
    ) -> None:
        self._products, self._load = Products(weights, kernels), load
        self._queue = Queue(max_queue_bytes, _expire)
        figures.QUEUE_BYTES.set_function(lambda: self._queue.num_bytes)
        self._thread = ThreadPoolExecutor(1, "step", initializer=torch.set_num_threads, initargs=(num_threads,))
        self._more = asyncio.Event()
        self._seconds: dict[int, float] = {}
        self._count = 0
        self._computing = False
        self._seen: deque[str] = deque(maxlen=_STEPS)
        self.worked_at = monotonic()
        """When the last batch came."""

    @property
    def progress(self) -> int:
        """Return a counter that stands still only while one product computes."""
        if not self._computing:
            self._count += 1
        return self._count

    def __len__(self) -> int:
        return len(self._queue) + self._computing

    def put(self, work: Work) -> None:
        """Queue `work`; its `answer` is called later.

        Raises:
            Refusal: OVERLOADED.
        """
        self._queue.put(work)
        self.worked_at = work.received
        self._more.set()

    def close(self) -> None:
        """End the step thread."""
        self._thread.shutdown(wait=True)

    async def run(self) -> None:
        """Compute until cancelled."""
        while True:
            works = self._queue.take(monotonic())
            if works:
                await self._step(works)
            else:
                self._more.clear()
                await self._more.wait()

    async def _step(self, works: list[Work]) -> None:
        """Compute one product and answer its batches."""
        began = monotonic()
        try:
            product = await self._product(works, began)
        except Exception as error:
            log.exception("product failed layer=%d", works[0].layer)
            for work in works:
                work.answer(failure(work.sequence, pb.BATCH_ERROR_UNSPECIFIED, f"product failed: {error!r}"))
            return
        for work, answer in zip(works, product.answers, strict=True):
            if not work.cancelled:
                work.answer(answer)
        # Lets answers out before they are counted, and new batches in: these may join the next product.
        await asyncio.sleep(0)
        self._load.add(works)
        _FIGURES[works[0].lane].observe(works, product, began)

    async def _product(self, works: list[Work], began: float) -> Product:
        """Compute here where that is expected to be short, else in the step thread."""
        size = sum(work.num_pairs for work in works).bit_length()
        self._computing = True
        try:
            with self._traced(works):
                if self._seconds.get(size, 1.0) < INLINE_SECONDS:
                    product = self._products.compute(works, began)
                else:
                    loop = asyncio.get_running_loop()
                    product = await loop.run_in_executor(self._thread, self._products.compute, works, began)
        finally:
            self._computing = False
            self._count += 1
        usual = self._seconds.get(size, product.seconds)
        self._seconds[size] = usual + (product.seconds - usual) * (0.1 if product.seconds > usual else 0.5)
        return product

    def _traced(self, works: list[Work]) -> contextlib.AbstractContextManager[object]:
        """Open a span for the first product of a sampled step, not for each of its layers."""
        if not any(work.traceparent for work in works):
            return _UNTRACED
        parents = [work.traceparent for work in works if work.traceparent and work.traceparent not in self._seen]
        self._seen.extend(parents)
        first = parents[0] if parents else ""
        return tracing.span_below(first, "experts.product", layer=works[0].layer, batches=len(works))


def failure(sequence: int, error: "pb.BatchError.ValueType", message: str) -> pb.StreamResponse:
    """Return the answer to a batch that has no result, and count it."""
    kind = pb.BatchError.Name(error).removeprefix("BATCH_ERROR_").lower()
    figures.REFUSED.labels(kind).inc()
    return pb.StreamResponse(failure=pb.Failure(sequence=sequence, error=error, message=message))


def refused(sequence: int, refusal: Refusal) -> pb.StreamResponse:
    """Return the answer to a batch that was refused."""
    return failure(sequence, refusal.error, str(refusal))


def _expire(work: Work) -> None:
    why = f"batch of layer {work.layer} waited longer than its deadline; add shards or raise expert_timeout_seconds"
    work.answer(failure(work.sequence, pb.BATCH_ERROR_EXPIRED, why))


class _LaneFigures:
    """The metrics of one lane, looked up once: that costs as much as noting a number."""

    def __init__(self, lane: str) -> None:
        self.seconds = figures.PRODUCT_SECONDS.labels(lane)
        self.rows = figures.PRODUCT_ROWS.labels(lane)
        self.batches = figures.PRODUCT_BATCHES.labels(lane)
        self.queue_seconds = figures.QUEUE_SECONDS.labels(lane)

    def observe(self, works: list[Work], product: Product, began: float) -> None:
        """Note one product."""
        self.seconds.observe(product.seconds)
        self.rows.observe(sum(work.num_rows for work in works))
        self.batches.observe(len(works))
        for work in works:
            self.queue_seconds.observe(began - work.received)


_FIGURES = {pb.LANE_DECODE: _LaneFigures("decode"), pb.LANE_PREFILL: _LaneFigures("prefill")}
