"""200 streams at once, a third cut by their clients: the others do not notice, and nothing is left."""

import asyncio
import random
from pathlib import Path

import httpx
import psutil
import pytest

from support_http import Answer, client, complete, read_event
from support_stack import Stack, running_stack, wait_for

NUM_STREAMS = 200
FIELDS = {"max_tokens": 24, "temperature": 0.8, "ignore_eos": True}
ROLES = ("gateway-0", "decode-0", "decode-1", "prefill-0")
PROMPTS = [[random.Random(number).randrange(256) for _ in range(5 + number % 90)] for number in range(NUM_STREAMS)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, toy: Path):
    with running_stack(tmp_path_factory.mktemp("streams"), toy, "--dtype", "float32") as running:
        yield running


async def cut(http: httpx.AsyncClient, model: str, prompt: list[int], seed: int, after: int) -> Answer:
    """Read `after` tokens, then close the connection."""
    body = {"model": model, "prompt": prompt, "stream": True, "return_token_ids": True, "seed": seed, **FIELDS}
    answer = Answer()
    async with http.stream("POST", "/v1/completions", json=body) as response:
        async for line in response.aiter_lines():
            read_event(line, answer)
            if len(answer.token_ids) >= after:
                break
    return answer


async def run(stack: Stack, cut_third: bool) -> list[Answer]:
    """Return all answers; every third is cut after a random number of tokens where `cut_third`."""
    generator = random.Random(7)
    async with client(stack.url) as http:
        jobs = [
            cut(http, stack.model.name, prompt, seed, generator.randrange(0, 20))
            if cut_third and seed % 3 == 0
            else complete(http, stack.model.name, prompt, seed=seed, **FIELDS)
            for seed, prompt in enumerate(PROMPTS)
        ]
        return list(await asyncio.gather(*jobs))


def idle(stack: Stack) -> bool:
    """Return whether no request is in flight and no page in use."""
    pages = sum(stack.metric(name, "glm5_pages_in_use") for name in ROLES[1:])
    flights = sum(stack.state(name)["in_flight"] for name in ROLES)
    return pages == 0 and flights == 0


def resources(stack: Stack) -> dict[str, tuple[int, int, int]]:
    """Return (tasks, threads, file descriptors) of each process."""
    found = {}
    for name in ROLES:
        process = psutil.Process(stack.row(name)["pid"])
        found[name] = (int(stack.metric(name, "glm5_asyncio_tasks")), process.num_threads(), process.num_fds())
    return found


@pytest.mark.timeout(600)
def test_streams_cut_by_clients_leave_nothing_and_disturb_nobody(stack: Stack) -> None:
    whole = asyncio.run(run(stack, cut_third=False))
    assert [answer.error for answer in whole] == [""] * NUM_STREAMS
    assert {len(answer.token_ids) for answer in whole} == {FIELDS["max_tokens"]}
    wait_for(lambda: idle(stack), 60, "requests or pages are left after 200 whole streams")
    before = resources(stack)

    crowd = asyncio.run(run(stack, cut_third=True))
    for seed, (was, now) in enumerate(zip(whole, crowd, strict=True)):
        assert now.token_ids == was.token_ids[: len(now.token_ids)], f"stream {seed} changed"
        assert seed % 3 == 0 or now.token_ids == was.token_ids, f"stream {seed} is not whole: {now.error}"
    wait_for(lambda: idle(stack), 60, lambda: f"left: {[stack.state(n)['in_flight'] for n in ROLES]}")
    wait_for(lambda: no_more(resources(stack), before), 60, lambda: f"before {before}, after {resources(stack)}")
    print(f"(tasks, threads, descriptors) before {before}, after {resources(stack)}")


def no_more(after: dict[str, tuple[int, int, int]], before: dict[str, tuple[int, int, int]]) -> bool:
    """Return whether no process has more of anything, but for the two descriptors of a connection that asks."""
    return all(
        now[0] <= was[0] + 2 and now[1] <= was[1] and now[2] <= was[2] + 2
        for now, was in ((after[name], before[name]) for name in before)
    )


@pytest.mark.timeout(300)
def test_over_the_queue_limit_a_429_causes_no_engine_call(tmp_path: Path, toy: Path) -> None:
    options = ("--dtype", "float32", "--decode", "1", "--experts", "2")
    limits = ("--set", "gateway.max_queue=2", "--set", "gateway.max_running=2")
    with running_stack(tmp_path, toy, *options, *limits) as stack:

        async def flood() -> list[Answer]:
            async with client(stack.url) as http:
                jobs = (complete(http, toy.name, [1, 2, 3], **FIELDS | {"max_tokens": 64}) for _ in range(20))
                return list(await asyncio.gather(*jobs))

        answers = asyncio.run(flood())
        refused = [answer for answer in answers if answer.status == 429]
        served = [answer for answer in answers if answer.status == 200]
        assert len(refused) + len(served) == 20
        assert len(served) >= 4
        assert refused, "the queue was never full"
        assert stack.metric("decode-0", "glm5_engine_calls_total") == len(served)
