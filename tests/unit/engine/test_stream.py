"""Streams: events in order, signs of life when it is quiet, an end when the worker leaves."""

import asyncio

import pytest

from glm5_engine.events import Started, Token
from glm5_engine.stream import Stream, Streams
from glm5_wire.errors import Draining


async def test_events_are_read_in_order_and_at_once():
    stream = Stream()
    stream.put(Started())
    stream.put(Token(0, 0, 5))
    assert await stream.next() == ([Started(), Token(0, 0, 5)], False)


async def test_a_waiting_reader_is_woken_by_an_event():
    stream = Stream()
    reader = asyncio.create_task(stream.next())
    await asyncio.sleep(0)
    stream.put(Started())
    assert await reader == ([Started()], False)


async def test_a_sign_of_life_is_due_only_after_a_whole_quiet_period():
    stream = Stream()
    stream.put(Started())
    await stream.next()
    stream.tick(False)
    stream.put(Started())
    assert await stream.next() == ([Started()], False)
    stream.tick(False)
    stream.tick(False)
    assert await stream.next() == ([], True)


async def test_an_urgent_tick_is_due_even_while_tokens_flow():
    stream = Stream()
    stream.put(Started())
    stream.tick(True)
    assert await stream.next() == ([Started()], True)


async def test_open_streams_tick_until_cancelled():
    streams = Streams(0.04, "w")
    task = asyncio.create_task(streams.run())
    with streams.opened() as stream:
        for _ in range(3):
            assert await asyncio.wait_for(stream.next(), 60) == ([], True)
    task.cancel()


async def test_draining_tells_every_reader_waits_for_them_and_closes_the_rest():
    streams = Streams(3, "w")
    ends = []

    async def read(patient):
        with streams.opened() as stream:
            ends.append((await stream.next())[1] and streams.leave_in_ms > 0)
            if patient:
                return
            with pytest.raises(Draining, match="go on elsewhere"):
                await stream.next()
            ends.append("closed")

    readers = [asyncio.create_task(read(patient)) for patient in (True, False)]
    await asyncio.sleep(0)
    await asyncio.wait_for(streams.drain(0.3), 60)
    await asyncio.gather(*readers)
    assert ends == [True, True, "closed"]
    assert len(streams) == 0


async def test_draining_ends_with_the_last_stream():
    streams = Streams(3, "w")
    await asyncio.wait_for(streams.drain(3600), 60)
