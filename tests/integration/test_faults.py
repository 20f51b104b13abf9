"""Processes that die or stop under load: streams go on with the same tokens, or end with one retriable error."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support_http import Answer, client, complete
from support_stack import Stack, running_stack, wait_for

NUM_STREAMS = 8
FIELDS = {"max_tokens": 48, "temperature": 0.7, "ignore_eos": True}
PROMPTS = [[random.Random(number).randrange(256) for _ in range(20 + 30 * number)] for number in range(NUM_STREAMS)]
VICTIMS = ("decode-0", "prefill-0", "experts-1", "gateway-0")
FEW, MANY = 2, 20
DRAWN, CANCELLED = "vllm:generation_tokens_total", "glm5_requests_cancelled_total"
DETECTION, STOPPED = 3.0, 8.0
"""Seconds: a stopped process is noticed before it goes on."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, toy: Path) -> Iterator[Stack]:
    # On a machine that is busy with other things a healthy process may be silent for seconds, too.
    patience = ("--set", f"all.detection_seconds={DETECTION:g}", "--set", "gateway.max_attempts=32")
    options = ("--dtype", "float32", *patience)
    with running_stack(tmp_path_factory.mktemp("faults"), toy, *options) as running:
        yield running


async def ask_all(stack: Stack, num_streams: int = NUM_STREAMS, **fields: Any) -> list[Answer]:
    async with client(stack.url) as http:
        prompts = enumerate(PROMPTS[:num_streams])
        jobs = (complete(http, stack.model.name, p, seed=i, **FIELDS | fields) for i, p in prompts)
        return list(await asyncio.wait_for(asyncio.gather(*jobs), 240))


@pytest.fixture(scope="module")
def expected(stack: Stack) -> list[list[int]]:
    answers = asyncio.run(ask_all(stack))
    assert [answer.error for answer in answers] == [""] * NUM_STREAMS
    return [answer.token_ids for answer in answers]


def serving(stack: Stack) -> bool:
    """Return whether every process is ready and a request is answered."""
    with contextlib.suppress(Exception):
        if all(stack.state(name)["ready"] for name in stack.names):
            answer = asyncio.run(ask_one(stack))
            return not answer.error and len(answer.token_ids) == 4
    return False


async def ask_one(stack: Stack) -> Answer:
    async with client(stack.url) as http:
        return await complete(http, stack.model.name, [1, 2, 3], max_tokens=4, temperature=0, ignore_eos=True)


def pids(stack: Stack) -> dict[str, int]:
    return {name: stack.row(name)["pid"] for name in stack.names}


async def ask_and_hurt(stack: Stack, victim: str, number: signal.Signals, delay: float) -> list[Answer]:
    """Ask everything, hurt the victim after `delay` seconds; a stopped one goes on after `STOPPED`."""
    asking = asyncio.create_task(ask_all(stack))
    await asyncio.sleep(delay)
    pid = stack.row(victim)["pid"]
    os.kill(pid, number)
    if number == signal.SIGSTOP:
        await asyncio.sleep(STOPPED)
        os.kill(pid, signal.SIGCONT)
    return await asking


def judge(victim: str, answers: list[Answer], expected: list[list[int]], counts: Counter[str]) -> None:
    """Assert that each answer is the expected one, or a prefix of it with one retriable error."""
    for answer, tokens in zip(answers, expected, strict=True):
        if not answer.error:
            assert answer.token_ids == tokens, "a token changed"
            counts["identical"] += 1
            continue
        assert answer.token_ids == tokens[: len(answer.token_ids)], "a token changed before the error"
        assert victim in ("gateway-0", "experts-1"), f"{victim}: {answer.error}"
        retriable = victim == "gateway-0" or answer.status in (200, 503)
        assert retriable, f"{answer.status}: {answer.error}"
        counts["one retriable error"] += 1


def hurt_again_and_again(stack: Stack, victim: str, number: signal.Signals, times: int, expected: list) -> None:
    counts: Counter[str] = Counter()
    generator = random.Random(victim)
    for _ in range(times):
        before = pids(stack)
        answers = asyncio.run(ask_and_hurt(stack, victim, number, generator.uniform(0.05, 1.5)))
        judge(victim, answers, expected, counts)
        wait_for(lambda: serving(stack), 120, lambda: f"{victim} {number.name}: not serving\n{stack.log[-3000:]}")
        others = {name: pid for name, pid in pids(stack).items() if name != victim}
        assert others == {name: pid for name, pid in before.items() if name != victim}, "another was restarted"
        wait_for(lambda: pages(stack) == 0, 60, lambda: f"{pages(stack)} pages are left")
    print(f"{number.name} {victim} x {times}: {dict(counts)}")


def pages(stack: Stack) -> float:
    return total(stack, "glm5_pages_in_use")


def total(stack: Stack, metric: str) -> float:
    return sum(stack.metric(name, metric) for name in ("decode-0", "decode-1", "prefill-0"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed(stack: Stack, expected: list, victim: str) -> None:
    hurt_again_and_again(stack, victim, signal.SIGKILL, FEW, expected)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", VICTIMS)
def test_stopped(stack: Stack, expected: list, victim: str) -> None:
    hurt_again_and_again(stack, victim, signal.SIGSTOP, 1, expected)


async def ask_and_stop_the_gateway(stack: Stack, hold: Callable[[], None], **fields: Any) -> list[Answer]:
    """Ask, stop the gateway while every stream is decoded, and let it go on once `hold()` returns."""
    asking = asyncio.create_task(ask_all(stack, **fields))
    drawn = total(stack, DRAWN)
    await asyncio.to_thread(wait_for, lambda: total(stack, DRAWN) > drawn + 100, 60, "no tokens were drawn")
    gateway = stack.row("gateway-0")["pid"]
    os.kill(gateway, signal.SIGSTOP)
    try:
        await asyncio.to_thread(hold)
    finally:
        os.kill(gateway, signal.SIGCONT)
    return await asking


@pytest.mark.timeout(900)
def test_workers_give_up_the_streams_of_a_stopped_gateway(stack: Stack) -> None:
    long = {"num_streams": 2, "max_tokens": 1000}
    expected = asyncio.run(ask_all(stack, **long))
    before = total(stack, CANCELLED)

    def hold() -> None:
        wait_for(lambda: total(stack, CANCELLED) == before + 2, 60, "the streams go on without their reader")
        assert pages(stack) == 0

    answers = asyncio.run(ask_and_stop_the_gateway(stack, hold, **long))
    assert [answer.error for answer in answers] == ["", ""]
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in expected]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_twenty_times(stack: Stack, expected: list, victim: str) -> None:
    hurt_again_and_again(stack, victim, signal.SIGKILL, MANY, expected)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("victim", VICTIMS)
def test_stopped_many_times(stack: Stack, expected: list, victim: str) -> None:
    hurt_again_and_again(stack, victim, signal.SIGSTOP, 5, expected)
