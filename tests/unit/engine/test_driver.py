"""Where sections run: short ones on the loop, long ones in the step thread, and none is left running."""

import asyncio
import threading
import time

import pytest
import torch

from glm5_engine.driver import INLINE_SECONDS, Driver
from glm5_model.exchange import Collect, Dispatch


class Echo:
    """Experts that answer with the rows themselves, in an order of their own."""

    def __init__(self):
        self.sent, self.gate = [], asyncio.Event()
        self.gate.set()

    def send(self, dispatch, lane, traceparent=""):
        self.sent.append((dispatch.layer, lane, traceparent))
        return dispatch

    async def collect(self, pending):
        await self.gate.wait()
        return pending.rows


@pytest.fixture
def driver():
    made = Driver(Echo(), "decode")
    yield made
    made.close()


def passes(num_layers, rows):
    """A generator like the model's: adds 1 in each layer to what the experts return."""
    for layer in range(num_layers):
        empty = torch.zeros(len(rows), 1)
        answer = yield Dispatch(layer, rows, empty.long(), empty)
        assert answer is None
        rows = (yield Collect(layer)) + 1
    return rows


async def test_a_pass_gets_its_sums_and_returns_its_logits(driver):
    logits = await driver.run(passes(3, torch.zeros(2, 4)), 2, "trace")
    assert torch.equal(logits, torch.full((2, 4), 3.0))
    assert driver._experts.sent == [(layer, "decode", "trace") for layer in range(3)]


async def test_two_passes_take_turns(driver):
    driver._experts.gate.clear()
    tasks = [asyncio.create_task(driver.run(passes(2, torch.zeros(1, 1)), 1)) for _ in range(2)]
    while len(driver._experts.sent) < 2:  # noqa: ASYNC110 - one turn of the loop at a time
        await asyncio.sleep(0)
    assert driver._experts.sent == [(0, "decode", "")] * 2, "the second computes while the first waits"
    driver._experts.gate.set()
    assert [int(logits) for logits in await asyncio.gather(*tasks)] == [2, 2]


async def test_a_section_moves_to_the_step_thread_once_it_is_known_to_be_long(driver):
    here, threads = threading.get_ident(), []

    def section():
        threads.append(threading.get_ident())
        time.sleep(2 * INLINE_SECONDS)

    await driver.compute(("long", 1), section)
    await driver.compute(("long", 1), section)
    assert threads[0] == here, "few rows are expected to be short"
    assert threads[1] != here


async def test_many_rows_begin_in_the_step_thread_and_come_back_when_they_prove_short(driver):
    here, threads = threading.get_ident(), []
    for _ in range(200):
        await driver.compute(("short", 9), lambda: threads.append(threading.get_ident()))
        if threads[-1] == here:
            break
    assert threads[0] != here
    assert threads[-1] == here


async def test_nothing_runs_on_the_loop_while_the_step_thread_computes(driver):
    here, release, threads = threading.get_ident(), threading.Event(), []
    long = asyncio.create_task(driver.compute(("long", 99), lambda: release.wait(60)))
    await asyncio.sleep(0)
    short = asyncio.create_task(driver.compute(("short", 1), lambda: threads.append(threading.get_ident())))
    await asyncio.sleep(0)
    counter = driver.progress
    assert driver.progress == counter, "a section that computes is not progress by itself"
    release.set()
    await asyncio.gather(long, short)
    assert threads[0] != here
    assert driver.progress > counter


async def test_a_section_is_waited_for_however_often_it_is_cancelled(driver):
    begun, release, done = threading.Event(), threading.Event(), []

    def section():
        begun.set()
        release.wait(60)
        done.append(True)

    task = asyncio.create_task(driver.compute(("long", 99), section))
    await asyncio.to_thread(begun.wait, 60)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done(), "its pages are still written to"
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


async def test_an_error_in_a_section_reaches_the_caller(driver):
    for key in (("few", 1), ("many", 99)):
        with pytest.raises(ZeroDivisionError):
            await driver.compute(key, lambda: 1 // 0)
