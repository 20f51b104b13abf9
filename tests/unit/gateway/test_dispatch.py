"""What the dispatcher decides: whose turn it is, which worker, and how a broken stream goes on."""

import asyncio

import pytest

from glm5.v1 import decode_service_pb2 as pb
from glm5.v1 import peer_pb2
from glm5.v1.sampling_pb2 import SamplingParams
from glm5_gateway.dispatch.admission import Admission
from glm5_gateway.dispatch.generation import Generation, Patience
from glm5_gateway.dispatch.progress import Delivered, Job
from glm5_gateway.dispatch.workers import Workers
from glm5_gateway.events import Ended, Tokens
from glm5_wire.errors import InvalidRequest, QueueFull, Unavailable
from glm5_wire.watcher import PeerHandle


def accepted(fingerprint="cpu-a", compat="c1", stream=0):
    return pb.GenerateResponse(accepted=pb.Accepted(compat=compat, kernel_fingerprint=fingerprint, stream=stream))


def tokens(first, *ids, choice=0):
    return pb.GenerateResponse(tokens=pb.TokenBatch(choice=choice, first_index=first, token_ids=ids))


def finished(choice=0, reason=pb.FINISH_REASON_STOP):
    return pb.GenerateResponse(finished=pb.Finished(choice=choice, reason=reason))


def draining():
    return pb.GenerateResponse(progress=pb.StepProgress(draining=True, leave_in_ms=9000))


def worker(name, fingerprint="cpu-a", compat="c1", covered=True):
    peer = peer_pb2.Peer(name=name, incarnation=f"{name}-1", compat=compat, covered=covered)
    peer.kernel_fingerprint = fingerprint
    return PeerHandle(peer, f"{name}:1", None)


class Known:
    """A list of workers in the place of a registry."""

    def __init__(self, *handles):
        self.handles = list(handles)
        self.failures = []
        self.callback = None

    def peers(self, role):
        return list(self.handles)

    def all_peers(self):
        return []

    def on_change(self, callback):
        self.callback = callback

    def report_failure(self, handle, error):
        self.failures.append(handle.peer.name)

    def add(self, handle):
        self.handles.append(handle)
        self.callback()


class Script(Patience):
    """Limits, and what each attempt says; a ServiceError in it breaks the stream."""

    __slots__ = ("ended", "requests", "script")

    def __init__(self, *script, **limits):
        super().__init__(
            **{"max_attempts": 8, "retry_seconds": 60, "detection_seconds": 1, "timeout_seconds": 600} | limits
        )
        object.__setattr__(self, "script", list(script))
        object.__setattr__(self, "requests", [])
        object.__setattr__(self, "ended", [])

    async def open(self, handle, request, timeout):
        self.requests.append((handle.peer.name, request))
        for item in self.script.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item

    async def end_choice(self, handle, stream, choice):
        if self.ended is None:
            raise BROKEN
        self.ended.append((handle.peer.name, stream, choice))


def generation(known, script, choices=1):
    job = Job("job", [1, 2], [SamplingParams(seed=5, max_tokens=9) for _ in range(choices)], "me")
    return Generation(job, Workers(known), script)


async def collect(generation):
    return [event async for event in generation.events()]


BROKEN = Unavailable("gone")


async def test_a_stream_goes_on_elsewhere_with_what_was_delivered():
    known = Known(worker("a"), worker("b"))
    script = Script([accepted(), tokens(0, 7, 8), BROKEN], [accepted(), tokens(2, 9), finished()])
    events = await collect(generation(known, script))
    assert [list(event.token_ids) for event in events if isinstance(event, Tokens)] == [[7, 8], [9]]
    assert [event for event in events if isinstance(event, Ended)] == [Ended(0, "stop", 0, 0)]
    (first, old), (second, new) = script.requests
    assert (first, second) == ("a", "b")
    assert (old.attempt, new.attempt) == (0, 1)
    assert new.compat == "c1"
    assert list(new.choices[0].output_token_ids) == [7, 8]
    assert new.choices[0].sampling == old.choices[0].sampling
    assert known.failures == ["a"]


async def test_tokens_that_come_twice_are_dropped():
    script = Script([tokens(0, 7, 8), BROKEN], [tokens(0, 7), tokens(1, 8, 9), tokens(3, 1), finished()])
    events = await collect(generation(Known(worker("a"), worker("b")), script))
    assert [i for event in events if isinstance(event, Tokens) for i in event.token_ids] == [7, 8, 9, 1]


async def test_a_gap_breaks_the_stream_and_loses_nothing():
    script = Script([tokens(0, 7), tokens(2, 9), finished()], [tokens(1, 8, 9), finished()])
    events = await collect(generation(Known(worker("a"), worker("b")), script))
    assert [i for event in events if isinstance(event, Tokens) for i in event.token_ids] == [7, 8, 9]


async def test_a_stream_that_just_ends_goes_on_elsewhere():
    script = Script([tokens(0, 7)], [finished()])
    assert isinstance((await collect(generation(Known(worker("a"), worker("b")), script)))[-1], Ended)


async def test_finished_choices_are_not_asked_for_again():
    script = Script([tokens(0, 7, choice=0), finished(0), BROKEN], [tokens(0, 8, choice=1), finished(1), finished(0)])
    events = await collect(generation(Known(worker("a"), worker("b")), script, choices=2))
    assert [choice.index for choice in script.requests[1][1].choices] == [1]
    assert [event.choice for event in events if isinstance(event, Ended)] == [0, 1]


async def test_a_dropped_choice_ends_the_stream():
    run = generation(Known(worker("a")), Script([tokens(0, 7), tokens(1, 8), finished()]))
    seen = []
    async for event in run.events():
        seen.append(event)
        run.drop(0)
    assert len(seen) == 1


async def test_the_worker_is_told_which_choice_of_which_stream_is_not_wanted_any_more():
    script = Script([accepted(stream=77), tokens(0, 7), tokens(0, 8, choice=1), finished(choice=0), finished(choice=1)])
    run = generation(Known(worker("a")), script, choices=2)
    seen = []
    async for event in run.events():
        seen.append(event)
        run.drop(0)
        run.drop(0)
        await asyncio.sleep(0)
    assert script.ended == [("a", 77, 0)], "once, and not when nothing is left to go on"
    assert [event.choice for event in seen] == [0, 1, 1]


async def test_a_worker_that_cannot_be_told_is_let_be():
    script = Script([accepted(stream=77), tokens(0, 7), tokens(0, 8, choice=1), finished(choice=1)])
    object.__setattr__(script, "ended", None)
    run = generation(Known(worker("a")), script, choices=2)
    async for _ in run.events():
        run.drop(0)
        await asyncio.sleep(0)


async def test_a_wrong_request_is_not_repeated():
    script = Script([InvalidRequest("no")])
    with pytest.raises(InvalidRequest):
        await collect(generation(Known(worker("a"), worker("b")), script))
    assert len(script.requests) == 1


async def test_attempts_are_bounded():
    script = Script(*[[Unavailable(f"broken {number}")] for number in range(9)], max_attempts=3)
    with pytest.raises(Unavailable, match="broken 2"):
        await collect(generation(Known(worker("a"), worker("b"), worker("c")), script))
    assert [name for name, _ in script.requests] == ["a", "b", "c"]


async def test_without_workers_the_reason_is_told():
    with pytest.raises(Unavailable, match="no decode worker is known"):
        await collect(generation(Known(), Script()))
    uncovered = worker("a", covered=False)
    uncovered.peer.missing = "shard 3 of 4"
    with pytest.raises(Unavailable, match="a: shard 3 of 4"):
        await collect(generation(Known(uncovered), Script()))


async def test_a_broken_stream_waits_for_the_next_worker():
    known = Known(worker("a"))
    script = Script([accepted(), tokens(0, 7), BROKEN], [tokens(1, 8), finished()])
    gone = asyncio.Event()

    def report_failure(handle, error):
        known.handles.clear()
        gone.set()

    known.report_failure = report_failure
    run = asyncio.create_task(collect(generation(known, script)))
    await gone.wait()
    known.add(worker("b", compat="other"))
    known.add(worker("c"))
    await run
    assert [name for name, _ in script.requests] == ["a", "c"]


async def test_a_broken_stream_does_not_wait_for_ever():
    known = Known(worker("a"))
    known.report_failure = lambda handle, error: known.handles.clear()
    with pytest.raises(Unavailable, match="no decode worker can answer"):
        await collect(generation(known, Script([accepted(), BROKEN], retry_seconds=0.05)))


async def test_a_full_worker_sends_the_request_to_another():
    script = Script([QueueFull("full")], [tokens(0, 7), finished()])
    known = Known(worker("a"), worker("b"))
    await collect(generation(known, script))
    assert [name for name, _ in script.requests] == ["a", "b"]
    assert known.failures == []


async def test_when_all_are_full_the_client_hears_it():
    script = Script([QueueFull("full")], [QueueFull("full")])
    with pytest.raises(QueueFull):
        await collect(generation(Known(worker("a"), worker("b")), script))


async def test_a_draining_worker_is_left_when_there_is_another():
    script = Script([accepted(), tokens(0, 7), draining(), tokens(1, 99)], [tokens(1, 8), finished()])
    events = await collect(generation(Known(worker("a"), worker("b")), script))
    assert [i for event in events if isinstance(event, Tokens) for i in event.token_ids] == [7, 8]
    assert [name for name, _ in script.requests] == ["a", "b"]


async def test_a_draining_worker_goes_on_when_there_is_no_other():
    script = Script([accepted(), tokens(0, 7), draining(), tokens(1, 8), finished()])
    known = Known(worker("a"), worker("b", compat="c2"))
    events = await collect(generation(known, script))
    assert [i for event in events if isinstance(event, Tokens) for i in event.token_ids] == [7, 8]


def test_the_least_busy_worker_with_the_same_kernels_is_picked():
    a, b, c = worker("a"), worker("b"), worker("c", fingerprint="cpu-b")
    workers = Workers(Known(c, b, a, worker("d", covered=False)))
    assert workers.pick() is a
    with workers.counted(a):
        assert workers.pick() is b
        with workers.counted(b):
            assert workers.pick() is c
            assert workers.pick(fingerprint="cpu-a") in (a, b)
            assert workers.pick(fingerprint="cpu-a", avoid=frozenset({"a-1"})) is b
    assert workers.pick(avoid=frozenset({"a-1", "b-1"})) is c
    assert workers.pick(compat="other") is None


def test_prompt_scores_are_asked_for_until_they_came():
    job = Job("job", [1, 2], [SamplingParams(prompt_logprobs=True)])
    delivered = Delivered(job)
    assert delivered.request(0, "").choices[0].sampling.prompt_logprobs
    list(delivered.take(pb.GenerateResponse(prompt_logprobs=pb.PromptLogprobs())))
    assert not delivered.request(1, "").choices[0].sampling.prompt_logprobs


async def hold(admission, key, log, release):
    async with admission.slot(key):
        log.append(key)
        await release.wait()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_keys_take_turns():
    admission, log, release = Admission(1, 10), [], asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, key, log, release)) for key in ("a", "a", "a", "b", "c")]
    await settle()
    assert (admission.num_running, admission.num_waiting) == (1, 4)
    release.set()
    await asyncio.gather(*tasks)
    assert log == ["a", "a", "b", "c", "a"]
    assert admission.in_flight == 0


async def test_one_more_than_fits_is_refused():
    admission, release = Admission(1, 1), asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, "a", [], release)) for _ in range(2)]
    await settle()
    with pytest.raises(QueueFull, match="1 prompts run and 1 wait"):
        async with admission.slot("b"):
            pass
    with pytest.raises(QueueFull):
        admission.check(1)
    release.set()
    await asyncio.gather(*tasks)
    admission.check(2)


async def test_who_gives_up_leaves_no_trace():
    admission, release = Admission(1, 5), asyncio.Event()
    first = asyncio.create_task(hold(admission, "a", [], release))
    await settle()
    waiting = [asyncio.create_task(hold(admission, "b", [], release)) for _ in range(2)]
    await settle()
    waiting[0].cancel()
    await settle()
    assert (admission.num_running, admission.num_waiting) == (1, 1)
    release.set()
    waiting[1].cancel()  # at the moment when it gets the slot
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert admission.in_flight == 0
    await admission.until_quiet(60, 0)


async def test_what_comes_in_the_quiet_time_is_waited_for():
    admission, release = Admission(1, 1), asyncio.Event()
    quiet = asyncio.create_task(admission.until_quiet(60, 0.2))
    await settle()
    late = asyncio.create_task(hold(admission, "a", [], release))
    await asyncio.sleep(0.5)
    assert not quiet.done()
    release.set()
    await asyncio.gather(late, quiet)
    assert admission.in_flight == 0


async def test_a_break_after_new_tokens_is_a_first_break():
    script = Script(
        *[[tokens(number, number), BROKEN] for number in range(6)], [tokens(6, 6), finished()], max_attempts=2
    )
    events = await collect(generation(Known(worker("a"), worker("b")), script))
    assert [i for event in events if isinstance(event, Tokens) for i in event.token_ids] == list(range(7))
