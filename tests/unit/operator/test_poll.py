"""What the operator asks of processes, over real HTTP on loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from glm5_operator.poll import Poller
from glm5_spec.admin import RoleState
from support_operator import UID, deployment

PATIENCE_SECONDS = 60.0


class Process:
    """An admin port that says what it is told to."""

    def __init__(self) -> None:
        self.port = 0
        self.asked = 0
        self.fails = False
        self.on_ask: Callable[[], None] = lambda: None
        self.state = RoleState(
            deployment=UID, role="decode", name="d", incarnation="1", role_revision="r", started=True, ready=True
        )

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        self.on_ask()
        if self.fails:
            return web.Response(status=500)
        # A process of a newer version says more than we know.
        return web.json_response({**self.state.model_dump(), "fromTheFuture": 1})


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    found = Process()
    app = web.Application()
    app.add_routes([web.get("/v1/state", found.answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


async def test_a_pod_that_is_new_to_us_is_asked_at_once(process: Process) -> None:
    poller = Poller(lambda key: None, poll_seconds=60.0, port=process.port)

    found = await poller.states(deployment(), [pod("a")])

    assert found["a"].ready
    assert process.asked == 1
    await poller.states(deployment(), [pod("a")])
    assert process.asked == 1


async def test_a_process_of_another_deployment_does_not_speak_for_the_pod(process: Process) -> None:
    process.state = process.state.model_copy(update={"deployment": "another"})
    poller = Poller(lambda key: None, poll_seconds=60.0, port=process.port)

    assert await poller.states(deployment(), [pod("a")]) == {}


async def test_pods_that_do_not_run_and_pods_of_jobs_are_not_asked(process: Process) -> None:
    poller = Poller(lambda key: None, poll_seconds=60.0, port=process.port)
    waiting, job = pod("waiting"), pod("job")
    waiting["status"]["containerStatuses"] = [{"state": {"waiting": {}}}]
    job["metadata"]["labels"] = {}

    assert await poller.states(deployment(), [waiting, job]) == {}
    assert process.asked == 0


async def test_a_change_is_news_and_a_count_of_requests_is_not(process: Process) -> None:
    news: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    poller = Poller(news.put_nowait, poll_seconds=0.01, port=process.port)
    await poller.states(deployment(), [pod("a")])
    assert await news.get() == ("default", "demo")
    task = asyncio.create_task(poller.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        process.state = process.state.model_copy(update={"in_flight": 7})
        asked = process.asked
        while process.asked < asked + 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert news.empty()

        process.state = process.state.model_copy(update={"covered": True})
        assert await news.get() == ("default", "demo")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_pod_that_is_forgotten_while_it_is_asked_ends_nothing(process: Process) -> None:
    poller = Poller(lambda key: None, poll_seconds=-1.0, port=process.port)  # every answer is too old at once
    await poller.states(deployment(), [pod("a")])
    process.fails, process.on_ask = True, lambda: poller.forget(("default", "demo"))
    task = asyncio.create_task(poller.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while process.asked < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def pod(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"serving.glm5.io/role": "decode"}},
        "status": {"podIP": "127.0.0.1", "containerStatuses": [{"state": {"running": {}}}]},
    }
