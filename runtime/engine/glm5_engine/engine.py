"""The engine: one task that plans a step, has it computed, and hands out what came of it, for as long as there is work.

Everything here runs on the event loop; only sections of the model's computing leave it (see `driver`).
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic, perf_counter

from torch import Tensor

from glm5_engine import metrics, outcome
from glm5_engine.driver import Driver
from glm5_engine.events import Finished, FinishReason, Started
from glm5_engine.facts import Facts
from glm5_engine.holdings import Holdings
from glm5_engine.pages import PageAllocator
from glm5_engine.request import Request
from glm5_engine.sampler import Choice, Logits, sample
from glm5_engine.scheduler import Limits, Scheduler
from glm5_engine.sequence import Cancellable, Entry, Sequence, State
from glm5_engine.step import num_logits
from glm5_engine.stepper import Model, Stepper
from glm5_engine.validation import validate
from glm5_model.cache import PagedCache
from glm5_spec.settings import WorkerSettings
from glm5_wire.errors import Draining, Internal, QueueFull, ServiceError

log = logging.getLogger(__name__)

StartFetch = Callable[[Sequence], Cancellable | None]
"""Starts to fetch the prompt's rows from elsewhere and returns the running fetch, or None to compute them here."""


class Engine:
    """Computes requests. `run` is its task; all methods are called on its event loop.

    Args:
        model: the mathematics.
        cache: rows of the pages.
        driver: computes and talks to the experts; closed by `close`.
        settings: bounds and deadlines.
        facts: of the model.
        start_fetch: asked for each admitted sequence; None where nothing can be fetched.
    """

    def __init__(
        self,
        model: Model,
        cache: PagedCache,
        driver: Driver,
        settings: WorkerSettings,
        facts: Facts,
        start_fetch: StartFetch | None = None,
    ) -> None:
        self.facts, self.cache = facts, cache
        self._driver, self._settings = driver, settings
        self._stepper = Stepper(model, cache, driver, settings)
        self._fetcher = start_fetch
        self.pages = PageAllocator(cache.num_pages)
        limits = Limits(settings.max_num_seqs, settings.max_step_tokens, settings.max_queue)
        self.scheduler = Scheduler(limits, Holdings(self.pages, cache.copy_page), self._start_fetch)
        self._wake = asyncio.Event()
        self._planned: asyncio.Future[None] | None = None
        self._computing: asyncio.Task[Tensor] | None = None
        self._in_step: list[Entry] = []
        self._arrivals: dict[Request, float] = {}
        self._seen_preemptions = 0
        self.is_draining = False
        """Refuse new requests."""

    @property
    def progress(self) -> int:
        """Return the step counter: it stands still only while one section of a step computes."""
        return self._driver.progress

    @property
    def num_requests(self) -> int:
        """Return how many requests are queued or running."""
        return len(self._arrivals)

    def submit(self, request: Request) -> list[Sequence]:
        """Queue `request` and return its sequences; events follow until it is over or cancelled.

        Raises:
            InvalidRequest: it can never be served.
            Draining: this worker leaves.
            QueueFull: as many wait as may.
        """
        validate(request, self.facts)
        if self.is_draining:
            raise Draining("request refused", self._settings.name, "the worker leaves", "go to another one")
        sequences = self._sequences(request)
        if sequences and not self.scheduler.add(request, sequences):
            why = f"{self._settings.max_queue} requests wait"
            raise QueueFull("request refused", self._settings.name, why, "try later or elsewhere", retry_after=1.0)
        if sequences:
            self._arrivals[request] = monotonic()
        self._finish_complete(request)
        metrics.CALLS.inc()
        metrics.PROMPT_TOKENS.inc(len(request.prompt))
        self._wake.set()
        return sequences

    def cancel(self, request: Request) -> None:
        """Forget `request` and free its pages: at once, or where a step is computing its rows, when that ends."""
        if self._arrivals.pop(request, None) is None:
            return
        if not request.is_over:
            request.is_over = True
            metrics.CANCELLED.inc()
        for sequence in self.scheduler.sequences(request):
            if not sequence.in_step:
                self.scheduler.remove(sequence)
        if self._computing is not None and self._is_abandoned():
            self._computing.cancel()
        self._observe()
        self._wake.set()

    def end_choice(self, request: Request, index: int) -> None:
        """End one choice as a stop token would: at once, or where a step is computing it, when that ends.

        Nothing happens before the prompt is computed, for then one choice works for all; nor to one that is over.
        """
        if not request.is_computed:
            return
        for sequence in self.scheduler.sequences(request):
            if sequence.choice is not None and sequence.choice.index == index:
                sequence.is_unwanted = True
                self._end_unwanted(sequence)
        self._observe()
        self._wake.set()

    async def run(self) -> None:
        """Step for as long as there is work, wait for more, and never return but by cancellation."""
        while True:
            self._wake.clear()
            entries = self.scheduler.plan()
            self._tell_planned()
            if entries:
                await self._step(entries)
            else:
                self._observe()
                await self._wake.wait()

    def close(self) -> None:
        """End the step thread; `run` has been cancelled."""
        self._driver.close()

    async def grow(self, sequence: Sequence, end: int) -> None:
        """Wait until a fetching sequence has pages for rows up to `end`; the caller is cancelled if it is preempted."""
        while not self.scheduler.want(sequence, end):
            if self._planned is None:
                self._planned = asyncio.get_running_loop().create_future()
            self._wake.set()
            await asyncio.shield(self._planned)

    def end_fetch(self, sequence: Sequence) -> None:
        """Go on with `sequence` from the rows that it has."""
        sequence.fetch, sequence.state = None, State.RUNNING
        outcome.note_prompt(self.scheduler, sequence)
        self._wake.set()

    def _sequences(self, request: Request) -> list[Sequence]:
        """Return a sequence per choice, the first of which leads; one without choice where only a cache is wanted."""
        if not request.choices:
            return [Sequence(request, None, list(request.prompt))]
        sequences: list[Sequence] = []
        for spec in request.choices:
            if len(spec.outputs) < spec.params.max_tokens:
                choice = Choice(spec.index, spec.params, self.facts.eos_token_ids, request.prompt, spec.outputs)
                leader = sequences[0] if sequences else None
                sequences.append(Sequence(request, choice, [*request.prompt, *spec.outputs], leader))
        return sequences

    def _finish_complete(self, request: Request) -> None:
        """End the choices whose earlier attempts delivered all of their tokens."""
        for spec in request.choices:
            if len(spec.outputs) >= spec.params.max_tokens:
                request.emit(Finished(spec.index, FinishReason.LENGTH))
        request.is_over = request not in self._arrivals

    def _start_fetch(self, sequence: Sequence) -> bool:
        if self._fetcher is None or not sequence.may_fetch:
            return False
        sequence.fetch = self._fetcher(sequence)
        return sequence.fetch is not None

    def _tell_planned(self) -> None:
        if self._planned is not None:
            self._planned.set_result(None)
            self._planned = None

    async def _step(self, entries: list[Entry]) -> None:
        """Compute `entries` and hand out the results; requests of a step that fails end with one error."""
        self._enter(entries)
        start = perf_counter()
        error: ServiceError | None = None
        logits: Tensor | None = None
        counts = [num_logits(entry) for entry in entries]
        self._computing = asyncio.create_task(self._stepper.compute(entries))
        try:
            logits = await self._computing
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if (task is not None and task.cancelling()) or not self._is_abandoned():
                raise
        except ServiceError as cause:
            error = cause
        except Exception as cause:  # whatever the model raises ends these requests, not the worker
            log.exception("step failed rows=%d", sum(entry.count for entry in entries))
            error = Internal("step failed", self._settings.name, f"{type(cause).__name__}: {cause}", "see its log")
        finally:
            self._leave(entries)
        if error is not None:
            outcome.fail(self.scheduler, [entry.sequence for entry in entries], lambda: error)
        elif logits is not None:
            await self._apply(entries, counts, logits)
        for entry in entries:
            self._end_unwanted(entry.sequence)
            if entry.sequence.request.is_over:
                self._arrivals.pop(entry.sequence.request, None)
        metrics.STEP_SECONDS.observe(perf_counter() - start)
        self._observe()

    def _enter(self, entries: list[Entry]) -> None:
        """Mark the sequences of a step, and tell requests that queue no more."""
        self._in_step = entries
        for entry in entries:
            entry.sequence.in_step = True
            request = entry.sequence.request
            if not request.has_started:
                request.has_started = True
                metrics.QUEUE_SECONDS.observe(monotonic() - self._arrivals[request])
                request.emit(Started())
        metrics.STEP_ROWS.observe(sum(entry.count for entry in entries))

    def _end_unwanted(self, sequence: Sequence) -> None:
        """End a choice that nobody wants, unless a step is computing it."""
        if sequence.is_unwanted and not sequence.in_step and sequence.state is not State.OVER:
            outcome.finish(self.scheduler, sequence, FinishReason.STOP)
            if sequence.request.is_over:
                self._arrivals.pop(sequence.request, None)

    def _leave(self, entries: list[Entry]) -> None:
        """Unmark the sequences of a step, and free the pages of those that were cancelled meanwhile."""
        self._in_step, self._computing = [], None
        for entry in entries:
            entry.sequence.in_step = False
            if entry.sequence.request.is_over:
                self.scheduler.remove(entry.sequence)

    async def _apply(self, entries: list[Entry], counts: list[int], logits: Tensor) -> None:
        """Note what a step computed, draw tokens, and end what is complete."""
        values = logits.numpy()[:, : self.facts.vocab_size]
        drawing: list[tuple[Sequence, int]] = []
        first = 0
        for entry, count in zip(entries, counts, strict=True):
            if not entry.sequence.request.is_over:
                if entry.samples:
                    drawing.append((entry.sequence, first + count - 1))
                outcome.note_rows(self.scheduler, entry, values[first : first + count])
            first += count
        if drawing:
            await self._draw(drawing, values)

    async def _draw(self, drawing: list[tuple[Sequence, int]], values: Logits) -> None:
        """Draw a token for each sequence from its row of `values`."""
        rows = [row for _, row in drawing]
        chosen = values if rows == list(range(len(values))) else values[rows]
        choices = [sequence.choice for sequence, _ in drawing if sequence.choice is not None]
        is_plain = all(choice.is_argmax for choice in choices)
        key = ("argmax" if is_plain else "draw", len(choices).bit_length())
        results = await self._driver.compute(key, lambda: sample(chosen, choices))
        for (sequence, _), result in zip(drawing, results, strict=True):
            if sequence.state is not State.OVER:
                outcome.note_token(self.scheduler, sequence, result)

    def _is_abandoned(self) -> bool:
        """Return whether nobody wants what the step computes."""
        return all(entry.sequence.request.is_over for entry in self._in_step)

    def _observe(self) -> None:
        """Set the gauges."""
        metrics.RUNNING.set(self.scheduler.num_running)
        metrics.WAITING.set(self.scheduler.num_waiting)
        metrics.PAGES_USED.set(self.pages.num_used)
        metrics.CACHE_USAGE.set(self.pages.num_used / self.pages.num_pages)
        preemptions = self.scheduler.num_preemptions
        metrics.PREEMPTIONS.inc(preemptions - self._seen_preemptions)
        self._seen_preemptions = preemptions
