"""Settings, queue, liveness and the one client library: the small parts of the operator's process."""

import ast
import asyncio
import time
from pathlib import Path

import pytest

from glm5_operator.errors import SettingsError
from glm5_operator.liveness import Liveness
from glm5_operator.queue import Key, Queue, Retry
from glm5_operator.settings import from_environment

PACKAGE = Path(__file__).parents[3] / "operator/glm5_operator"
PATIENCE_SECONDS = 60.0
KEY = ("a", "demo")


def test_settings_come_from_the_environment() -> None:
    found = from_environment({"GLM5_OPERATOR_WATCH_NAMESPACES": "a, b,", "GLM5_OPERATOR_POD_UID": "uid", "HOME": "/"})

    assert found.watch_namespaces == ("a", "b")
    assert found.identity.startswith("uid-")
    assert found.identity != from_environment({"GLM5_OPERATOR_POD_UID": "uid"}).identity


@pytest.mark.parametrize(
    ("variable", "value"),
    [("GLM5_OPERATOR_POLL_SECOND", "2"), ("GLM5_OPERATOR_POLL_SECONDS", "soon"), ("GLM5_OPERATOR_RENEW_SECONDS", "60")],
)
def test_a_wrong_setting_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        from_environment({variable: value})


def test_only_known_modules_know_the_client_and_kopf_and_nobody_the_synchronous_client() -> None:
    users: dict[str, set[str]] = {"kopf": set(), "kubernetes": set()}
    for path in PACKAGE.rglob("*.py"):
        for name in imports(path):
            root = name.partition(".")[0]
            if root in users:
                users[root].add(path.name)
            assert root != "kubernetes" or name.startswith("kubernetes.aio"), f"{path.name} imports {name}"

    assert users == {"kopf": {"watch.py"}, "kubernetes": {"api.py", "watch.py"}}


def imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{one.name}" for one in node.names]
    return found


def test_a_watch_that_brings_what_is_read_is_alive() -> None:
    liveness = Liveness(deaf_seconds=0.0001)
    liveness.seen(KEY, "1")
    assert liveness.read([(KEY, "1")]) == []

    assert liveness.alive


def test_news_that_the_watch_never_brings_ends_life_and_news_that_it_brings_does_not() -> None:
    liveness = Liveness(deaf_seconds=0.0001)
    assert liveness.read([(KEY, "2")]) == [KEY]
    time.sleep(0.001)
    liveness.read([(KEY, "2")])
    assert not liveness.alive

    liveness.seen(KEY, "2")
    liveness.read([(KEY, "2")])
    assert liveness.alive


def test_a_deletion_that_the_watch_never_brings_is_news_too() -> None:
    liveness = Liveness(deaf_seconds=60)
    liveness.seen(KEY, "1")

    assert liveness.read([]) == [KEY]


def test_an_api_server_that_does_not_answer_proves_nothing() -> None:
    liveness = Liveness(deaf_seconds=0.0001)
    liveness.read([(KEY, "2")])
    time.sleep(0.001)
    liveness.read([(KEY, "2")])

    liveness.unread()

    assert liveness.alive


async def test_one_key_is_never_worked_on_twice_at_once_and_no_news_is_lost() -> None:
    running, passes = 0, 0
    begun, gate, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(key: Key) -> None:
        nonlocal running, passes
        running += 1
        assert running == 1
        begun.set()
        await gate.wait()
        running -= 1
        passes += 1
        if passes == 2:
            done.set()

    queue = Queue(work)
    task = asyncio.create_task(queue.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        queue.put(KEY, 0)
        await begun.wait()
        queue.put(KEY, 0)  # news during a pass
        gate.set()
        await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert passes == 2


async def test_a_pass_that_failed_is_tried_again() -> None:
    tries, done = 0, asyncio.Event()

    async def work(key: Key) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Retry
        done.set()

    queue = Queue(work)
    task = asyncio.create_task(queue.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        queue.put(KEY, 0)
        await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert tries == 2
