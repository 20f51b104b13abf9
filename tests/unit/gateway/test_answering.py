"""How an answer goes out: the held status, keep-alives, errors before and after the first chunk, clients that leave."""

import asyncio
import json

import pytest

from glm5_gateway.http import answering
from glm5_gateway.http.answering import Answering
from glm5_gateway.pump import Pump
from glm5_wire.errors import InvalidRequest, QueueFull, Unavailable

DONE = "data: [DONE]"


class Call:
    """Says what it is told to; an Event in it is waited for."""

    def __init__(self, *items, stream=True):
        self.items, self.stream = items, stream
        self.closed = asyncio.Event()

    async def objects(self):
        try:
            for item in self.items:
                if isinstance(item, asyncio.Event):
                    await item.wait()
                elif isinstance(item, Exception):
                    raise item
                else:
                    yield item
        finally:
            self.closed.set()

    async def answer(self):
        return [item async for item in self.objects()][-1]


class Client:
    """The other end of an ASGI connection."""

    def __init__(self):
        self.status, self.headers, self.body = None, {}, ""
        self.gone, self.news = asyncio.Event(), asyncio.Event()
        self.complete = False

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"].decode()
            self.complete = not message.get("more_body", False)
        self.news.set()

    async def sees(self, text):
        while text not in self.body:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 60)

    @property
    def lines(self):
        return [line for line in self.body.split("\n") if line]


async def run(call, hold=60.0, leaving=None):
    client = Client()
    await Answering(call, hold, leaving or asyncio.Event())({"type": "http"}, client.receive, client.send)
    return client


async def test_a_stream_is_events_and_ends_with_done():
    client = await run(Call({"a": "ü"}, {"b": 1}))
    assert client.status == 200
    assert client.headers[b"content-type"].startswith(b"text/event-stream")
    assert client.lines == ['data: {"a":"ü"}', 'data: {"b":1}', DONE]
    assert client.complete


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("x"), 503), (QueueFull("x"), 429), (InvalidRequest("x"), 400)]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_first_chunk_has_its_own_status(error, status, stream):
    client = await run(Call(error, stream=stream))
    assert client.status == status
    assert json.loads(client.body)["error"]["message"] == "x"
    assert (b"retry-after" in client.headers) == error.retriable


async def test_an_error_after_the_first_chunk_is_an_event_and_the_end():
    client = await run(Call({"a": 1}, Unavailable("gone", "decode-0")))
    assert client.status == 200
    first, error, end = client.lines
    assert first == 'data: {"a":1}'
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "unavailable"
    assert end == DONE


async def test_a_bug_is_an_error_too(caplog):
    client = await run(Call({"a": 1}, ZeroDivisionError("oops")))
    assert '"type":"server_error"' in client.lines[1]
    assert client.lines[-1] == DONE
    assert "oops" in caplog.text


async def test_the_status_goes_out_when_the_first_chunk_takes_too_long(monkeypatch):
    monkeypatch.setattr(answering, "KEEP_ALIVE_SECONDS", 0.01)
    first, client = asyncio.Event(), Client()
    call = Call(first, {"a": 1})
    task = asyncio.create_task(Answering(call, 0.0, asyncio.Event())({"type": "http"}, client.receive, client.send))
    await client.sees(": keep-alive\n\n: keep-alive")
    assert client.status == 200
    first.set()
    await asyncio.wait_for(task, 60)
    assert client.lines[-2:] == ['data: {"a":1}', DONE]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_the_work(stream):
    call, client = Call({"a": 1}, asyncio.Event(), stream=stream), Client()
    task = asyncio.create_task(Answering(call, 60.0, asyncio.Event())({"type": "http"}, client.receive, client.send))
    if stream:
        await client.sees("data:")
    client.gone.set()
    await asyncio.wait_for(task, 60)
    assert call.closed.is_set() or not stream
    assert DONE not in client.body


async def test_a_process_that_leaves_ends_streams_with_a_retriable_error():
    leaving, client = asyncio.Event(), Client()
    call = Call({"a": 1}, asyncio.Event())
    task = asyncio.create_task(Answering(call, 60.0, leaving)({"type": "http"}, client.receive, client.send))
    await client.sees("data:")
    leaving.set()
    await asyncio.wait_for(task, 60)
    assert '"code":"draining"' in client.lines[1]
    assert client.lines[-1] == DONE
    assert call.closed.is_set()


async def test_a_client_that_does_not_read_slows_its_stream_down():
    made = []

    class Endless:
        stream = True

        async def objects(self):
            while True:
                made.append(1)
                yield {}

    async with Pump.of_objects(Endless(), asyncio.Event()) as pump:
        await pump.next(60)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(made) < 100
