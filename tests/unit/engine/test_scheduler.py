"""The scheduler as tables of exact steps, and its promises under any load."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm5_engine.fair_queue import FairQueue
from glm5_engine.holdings import Holdings
from glm5_engine.pages import PageAllocator, pages_for
from glm5_engine.request import ChoiceSpec, Request
from glm5_engine.sampler import Choice
from glm5_engine.scheduler import Limits, Scheduler
from glm5_engine.sequence import Sequence, State
from glm5_spec.sampling import SamplingParams


def request(name, num_tokens, n=1, key="", outputs=()):
    params = SamplingParams(max_tokens=10_000)
    choices = [ChoiceSpec(i, params, tuple(outputs)) for i in range(n)]
    return Request(name, [1] * num_tokens, choices, lambda event: None, key)


class World:
    """A scheduler with a pool, and a model that needs no time."""

    def __init__(self, num_pages=100, max_num_seqs=8, max_step_tokens=100, max_queue=100, fetches=False):
        self.pages = PageAllocator(num_pages)
        self.copies = []
        self.fetching = []
        holdings = Holdings(self.pages, lambda source, target: self.copies.append((source, target)))
        limits = Limits(max_num_seqs, max_step_tokens, max_queue)
        self.scheduler = Scheduler(limits, holdings, lambda s: fetches and (self.fetching.append(s) or True))

    def add(self, req):
        sequences = []
        for spec in req.choices:
            choice = Choice(spec.index, spec.params, (), req.prompt, spec.outputs)
            leader = sequences[0] if sequences else None
            sequences.append(Sequence(req, choice, [*req.prompt, *spec.outputs], leader))
        return sequences if self.scheduler.add(req, sequences) else None

    def step(self):
        """Plan and pretend to compute a step; return {(request, choice): (start, count)}."""
        entries = self.scheduler.plan()
        for entry in entries:
            sequence = entry.sequence
            sequence.cached = entry.end
            if sequence.leader is None and sequence.cached >= sequence.num_prompt - 1:
                self.scheduler.fork(sequence)
        for entry in entries:
            if entry.samples:
                entry.sequence.tokens.append(2)
        return {(e.sequence.request.request_id, e.sequence.choice.index): (e.start, e.count) for e in entries}


def test_a_prompt_is_computed_in_chunks_and_then_decoded():
    world = World(max_step_tokens=40)
    world.add(request("a", 100))
    assert [world.step() for _ in range(5)] == [
        {("a", 0): (0, 40)},
        {("a", 0): (40, 40)},
        {("a", 0): (80, 20)},
        {("a", 0): (100, 1)},
        {("a", 0): (101, 1)},
    ]


def test_decode_rows_go_first_and_prompts_share_the_rest_by_age():
    world = World(max_step_tokens=40)
    world.add(request("a", 10))
    world.step()
    world.add(request("b", 30))
    world.add(request("c", 30))
    assert world.step() == {("a", 0): (10, 1), ("b", 0): (0, 30), ("c", 0): (0, 9)}
    assert world.step() == {("a", 0): (11, 1), ("b", 0): (30, 1), ("c", 0): (9, 21)}


def test_a_step_full_of_decode_rows_still_takes_some_rows_of_a_prompt():
    world = World(max_step_tokens=20, max_num_seqs=64)
    for i in range(20):
        world.add(request(f"d{i}", 1))
    world.step()
    world.add(request("p", 50))
    assert world.step()["p", 0] == (0, 16)


def test_admission_stops_at_max_num_seqs():
    world = World(max_num_seqs=2)
    for name in "abc":
        world.add(request(name, 5))
    assert set(world.step()) == {("a", 0), ("b", 0)}
    assert world.scheduler.num_waiting == 1


def test_keys_take_turns():
    queue = FairQueue()
    requests = {name: request(name, 1, key=name[0]) for name in ("a1", "a2", "a3", "b1", "c1", "c2")}
    for r in requests.values():
        queue.push(r)
    assert queue.remove(requests["c1"])
    assert not queue.remove(requests["c1"])
    assert [queue.pop().request_id for _ in range(len(queue))] == ["a1", "b1", "c2", "a2", "a3"]
    assert queue.peek() is None


def test_a_full_queue_refuses_and_forgets_the_request():
    world = World(max_num_seqs=1, max_queue=1)
    assert world.add(request("a", 5))
    assert world.add(request("b", 5))
    refused = request("c", 5)
    assert world.add(refused) is None
    assert world.scheduler.num_waiting == 1
    assert world.scheduler.sequences(refused) == []


def test_a_queue_of_length_zero_still_takes_what_can_run_at_once():
    world = World(max_num_seqs=1, max_queue=0)
    assert world.add(request("a", 5))
    assert world.add(request("b", 5)) is None


def test_the_youngest_is_preempted_and_computed_again_from_all_its_tokens():
    world = World(num_pages=3, max_step_tokens=200)
    (a,) = world.add(request("a", 60))
    world.step()
    (b,) = world.add(request("b", 62))
    for _ in range(2):
        world.step()  # b: 62, 63; a: 61, 62
    while b.state is State.RUNNING:
        assert world.step()
    assert b.num_preemptions == 1
    assert a.num_preemptions == 0
    assert b.pages == []
    num_tokens = len(b.tokens)
    world.scheduler.remove(a)
    assert world.step() == {("b", 0): (0, num_tokens)}


def test_a_preempted_prompt_goes_before_those_that_never_ran():
    world = World(num_pages=4, max_step_tokens=300)
    (a,) = world.add(request("a", 120))
    (b,) = world.add(request("b", 60))
    world.step()
    while b.state is State.RUNNING:
        world.step()
    world.add(request("c", 5))
    assert world.step().keys() == {("a", 0)}
    world.scheduler.remove(a)
    assert next(iter(world.step())) == ("b", 0)


def test_choices_share_the_pages_of_the_prompt_and_copy_the_last_before_writing():
    world = World(max_step_tokens=200)
    a, b, c = world.add(request("a", 100, n=3))
    assert world.step() == {("a", 0): (0, 100)}
    assert a.pages == b.pages == c.pages
    assert world.pages.num_used == 2
    assert world.step() == {("a", 0): (100, 1), ("a", 1): (99, 1), ("a", 2): (99, 1)}
    assert a.pages[0] == b.pages[0] == c.pages[0]
    assert len({s.pages[1] for s in (a, b, c)}) == 3
    assert len(world.copies) == 2
    assert world.pages.num_used == 4
    for sequence in (a, b, c):
        world.scheduler.remove(sequence)
    assert world.pages.num_used == 0


def test_choices_of_a_prompt_of_one_token_need_no_shared_rows():
    world = World()
    world.add(request("a", 1, n=2))
    assert world.step() == {("a", 0): (0, 1)}
    assert world.step() == {("a", 0): (1, 1), ("a", 1): (0, 1)}


def test_a_continued_choice_computes_its_own_outputs_on_the_shared_prompt():
    world = World()
    world.add(request("a", 10, n=2, outputs=[5, 6, 7]))
    assert world.step() == {("a", 0): (0, 13)}
    assert world.step() == {("a", 0): (13, 1), ("a", 1): (9, 4)}


def test_a_fetching_sequence_takes_no_part_and_gets_pages_when_it_asks():
    world = World(num_pages=2, fetches=True)
    (a,) = world.add(request("a", 100))
    assert world.step() == {}
    assert world.pages.num_used == 0
    assert world.scheduler.want(a, 64)
    a.cached = 64
    assert world.scheduler.want(a, 99)
    a.cached, a.state = 99, State.RUNNING
    assert world.step() == {("a", 0): (99, 1)}


def test_a_fetching_sequence_that_is_older_gets_the_pages_of_a_younger_one():
    world = World(num_pages=2, fetches=True)
    (a,) = world.add(request("a", 100))
    (b,) = world.add(request("b", 20))
    assert b.state is State.WAITING, "a was promised both pages"
    b.state, b.age = State.RUNNING, 99
    world.scheduler._admitted.append(b)
    world.scheduler._queue.pop()
    world.step()
    assert world.scheduler.want(a, 64)
    assert not world.scheduler.want(a, 100)
    world.step()
    assert len(a.pages) == 2
    assert b.num_preemptions == 1


def test_preemption_cancels_a_fetch():
    class Fetch:
        cancelled = False

        def cancel(self):
            self.cancelled = True

    world = World(fetches=True)
    (a,) = world.add(request("a", 100))
    fetch = a.fetch = Fetch()
    world.scheduler.remove(a)
    assert fetch.cancelled
    assert a.fetch is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_under_any_load_everything_ends_the_oldest_is_never_preempted_and_no_page_is_lost(data):
    world = World(
        num_pages=data.draw(st.integers(6, 14)), max_num_seqs=data.draw(st.integers(3, 8)), max_step_tokens=64
    )
    pending = data.draw(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 3), st.integers(1, 100)), max_size=8))
    alive, goals, steps = [], {}, 0
    while pending or alive:
        if pending and (not alive or data.draw(st.booleans())):
            length, n, outputs = pending.pop()
            for sequence in world.add(request(str(len(pending)), length, n)):
                alive.append(sequence)
                goals[sequence] = length + outputs
        elif alive and data.draw(st.integers(0, 40)) == 0:
            victim = data.draw(st.sampled_from(alive)).request
            for sequence in world.scheduler.sequences(victim):
                world.scheduler.remove(sequence)
        admitted = [s for s in alive if s.age >= 0 and s.state is not State.OVER]
        oldest = min(admitted, key=lambda s: s.age, default=None)
        before = oldest.num_preemptions if oldest else 0
        planned = world.step()
        assert oldest is None or oldest.num_preemptions == before
        assert bool(planned) == any(s.state is State.RUNNING for s in alive)
        for sequence in alive:
            if sequence.state is not State.OVER and len(sequence.tokens) >= goals[sequence]:
                world.scheduler.remove(sequence)
        alive = [s for s in alive if s.state is not State.OVER]
        check_holdings(world, alive)
        steps += 1
        assert steps < 20_000, "no progress"
    assert world.pages.num_used == 0
    assert world.scheduler.num_waiting == world.scheduler.num_running == 0


def check_holdings(world, alive):
    """Pages in use are those that live sequences hold, and each has what its rows need, written by itself alone."""
    held = Counter(page for s in alive for page in s.pages)
    assert world.pages.num_used == len(held)
    for sequence in alive:
        assert len(sequence.pages) >= pages_for(sequence.cached)
        assert sequence.state in (State.RUNNING, State.FORKING, State.WAITING)
        assert sequence.pages == [] or sequence.state is State.RUNNING


@pytest.mark.parametrize("n", [1, 8])
def test_a_request_as_large_as_the_pool_ends(n):
    world = World(num_pages=4, max_step_tokens=64)
    sequences = world.add(request("a", 200, n=n))
    for _ in range(3000):
        world.step()
        for sequence in sequences:
            if sequence.state is not State.OVER and len(sequence.tokens) >= 256:
                world.scheduler.remove(sequence)
    assert all(s.state is State.OVER for s in sequences)
    assert world.pages.num_used == 0
