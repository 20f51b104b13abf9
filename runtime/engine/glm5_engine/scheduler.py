"""Decides which rows the next step computes. Pure: it knows neither tensors nor time nor tasks.

Order of rights: who was admitted first. When pages run out the youngest sequence gives its own back and is computed
again later; the oldest never does, so somebody always makes progress. Decode rows go first, prompts take what is left
of the step's rows.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from glm5_engine.fair_queue import FairQueue
from glm5_engine.holdings import Holdings
from glm5_engine.pages import PAGE_SIZE, pages_for
from glm5_engine.request import Request
from glm5_engine.sequence import Entry, Sequence, State

_LEAST_PROMPT_ROWS = 16
"""Rows for prompts in a step that is full of decode rows: prompts must not starve."""
_MOST_LOGITS_ROWS = 64
"""Rows of a step whose logits are all wanted: 64 rows of 150,000 logits are 40 MB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a worker's steps."""

    max_num_seqs: int
    max_step_tokens: int
    max_queue: int


class Scheduler:
    """The sequences of one worker.

    Args:
        limits: bounds.
        holdings: the pages.
        start_fetch: is asked at admission whether another worker computes the prompt; starts that and returns True.
    """

    def __init__(self, limits: Limits, holdings: Holdings, start_fetch: Callable[[Sequence], bool]) -> None:
        self._limits, self._holdings, self._start_fetch = limits, holdings, start_fetch
        self._queue = FairQueue()
        self._groups: dict[Request, list[Sequence]] = {}
        self._preempted: list[Sequence] = []  # by age
        self._admitted: list[Sequence] = []  # by age
        self._growths: dict[Sequence, int] = {}
        self._ages = itertools.count()
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        """Return how many requests wait for admission, and sequences to be admitted again."""
        return len(self._queue) + len(self._preempted)

    @property
    def num_running(self) -> int:
        """Return how many sequences are admitted."""
        return len(self._admitted)

    def sequences(self, request: Request) -> list[Sequence]:
        """Return the sequences of `request` that are not over."""
        return [s for s in self._groups.get(request, ()) if s.state is not State.OVER]

    def add(self, request: Request, sequences: list[Sequence]) -> bool:
        """Queue the sequences of a request, the leader first; False and nothing changed where the queue is full."""
        self._groups[request] = sequences
        self._queue.push(request)
        self._admit()
        if len(self._queue) > self._limits.max_queue and self._queue.remove(request):
            del self._groups[request]
            return False
        return True

    def plan(self) -> list[Entry]:
        """Admit what fits, preempt what must go, and return the rows of the next step; empty where there are none."""
        self._admit()
        self._grow_fetches()
        entries: dict[Sequence, Entry] = {}
        prompts = []
        for sequence in list(self._admitted):
            if sequence.state is not State.RUNNING:
                continue
            if sequence.choice is not None and sequence.num_pending == 1 and not sequence.wants_prompt_logprobs:
                self._enter(entries, sequence, 1)
            else:
                prompts.append(sequence)
        self._enter_prompts(entries, prompts)
        return list(entries.values())

    def fork(self, leader: Sequence) -> None:
        """Let the other choices of the leader's request go on from its prompt, whose rows but the last are cached.

        Each computes the last row of the prompt again: its logits are where the choices part.
        """
        for sequence in self.sequences(leader.request):
            if sequence.state is State.FORKING:
                self._holdings.share(leader, sequence, leader.num_prompt - 1)
                sequence.state = State.RUNNING

    def want(self, sequence: Sequence, end: int) -> bool:
        """Give a fetching sequence pages up to row `end` now, or note the wish for the next plan and return False."""
        if self._holdings.grow(sequence, end):
            return True
        self._growths[sequence] = end
        return False

    def remove(self, sequence: Sequence) -> None:
        """Forget `sequence` and free its pages; its step, if any, has ended."""
        self._stop(sequence, State.OVER)
        if sequence in self._preempted:
            self._preempted.remove(sequence)
        if not self.sequences(sequence.request):
            self._groups.pop(sequence.request, None)
            self._queue.remove(sequence.request)

    def _admit(self) -> None:
        """Admit preempted sequences, then waiting requests, as long as their tokens find room."""
        while self._preempted and self._fits(self._preempted[:1]):
            self._enlist(self._preempted.pop(0))
        while not self._preempted:
            request = self._queue.peek()
            if request is None or not self._fits(self._groups[request]):
                return
            self._queue.pop()
            for sequence in self._groups[request]:
                sequence.age = next(self._ages)
                self._enlist(sequence)

    def _fits(self, sequences: list[Sequence]) -> bool:
        """Return whether `sequences` may be admitted beside what those admitted before still need for their tokens."""
        if not self._admitted:
            return True
        if len(self._admitted) + len(sequences) > self._limits.max_num_seqs:
            return False
        # Half a page of reserve per sequence: who is admitted into the last page is preempted a few tokens later.
        needed = sum(map(self._need, self._admitted)) + len(self._admitted) // 2 + sum(map(self._need, sequences))
        return needed <= self._holdings.num_free

    def _need(self, sequence: Sequence) -> int:
        """Return how many pages `sequence` lacks for its tokens and one more."""
        needed = pages_for(len(sequence.tokens) + 1) - len(sequence.pages)
        if sequence.leader is not None and not sequence.pages and sequence.num_preemptions == 0:
            needed -= (sequence.num_prompt - 1) // PAGE_SIZE  # full pages that it will share
        return max(0, needed)

    def _enlist(self, sequence: Sequence) -> None:
        """Put an admitted sequence in its place by age."""
        is_follower = sequence.leader is not None and sequence.num_preemptions == 0
        if is_follower:
            sequence.state = State.FORKING
        else:
            sequence.state = State.FETCHING if self._start_fetch(sequence) else State.RUNNING
        self._admitted.append(sequence)
        self._admitted.sort(key=lambda s: s.age)

    def _grow_fetches(self) -> None:
        """Serve the wishes of fetching sequences, the oldest first, by preemption of younger ones where needed."""
        for sequence in sorted(self._growths, key=lambda s: s.age):
            if sequence in self._growths and self._ensure(sequence, self._growths[sequence], {}):
                del self._growths[sequence]

    def _enter_prompts(self, entries: dict[Sequence, Entry], prompts: list[Sequence]) -> None:
        """Add rows of prompts, the oldest first, in what is left of the step."""
        limit = self._limits.max_step_tokens
        left = max(limit - len(entries), min(_LEAST_PROMPT_ROWS, limit))
        for sequence in prompts:
            if left <= 0:
                return
            count = min(sequence.num_pending, left)
            if sequence.wants_prompt_logprobs:
                count = min(count, _MOST_LOGITS_ROWS)
            if count > 0 and sequence.state is State.RUNNING:
                left -= self._enter(entries, sequence, count)

    def _enter(self, entries: dict[Sequence, Entry], sequence: Sequence, count: int) -> int:
        """Add `count` rows of `sequence` if it gets the pages for them, and return how many were added."""
        if sequence.state is not State.RUNNING or not self._ensure(sequence, sequence.cached + count, entries):
            return 0
        entries[sequence] = Entry(sequence, sequence.cached, count)
        return count

    def _ensure(self, sequence: Sequence, end: int, entries: dict[Sequence, Entry]) -> bool:
        """Give `sequence` pages up to row `end`; younger ones are preempted for that, the youngest first."""
        while not self._holdings.grow(sequence, end):
            victim = next((s for s in reversed(self._admitted) if s.pages), None)
            if victim is None or victim.age <= sequence.age:
                return False
            entries.pop(victim, None)
            self._preempt(victim)
        return True

    def _preempt(self, victim: Sequence) -> None:
        """Take the pages of `victim`; it is computed again from its tokens when there is room."""
        self._stop(victim, State.WAITING)
        victim.num_preemptions += 1
        self.num_preemptions += 1
        self._preempted.append(victim)
        self._preempted.sort(key=lambda s: s.age)

    def _stop(self, sequence: Sequence, state: State) -> None:
        """Take `sequence` out of those admitted, end its fetch and free its pages."""
        if sequence.fetch is not None:
            sequence.fetch.cancel()
            sequence.fetch = None
        self._growths.pop(sequence, None)
        self._holdings.release(sequence)
        sequence.state = state
        if sequence in self._admitted:
            self._admitted.remove(sequence)
