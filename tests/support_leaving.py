"""What pods had open when they were told to leave.

A process says in its log what it had in flight at its SIGTERM: the log is followed from when the API server says that
the pod shall go. Shards have no requests but streams, on which workers send when they like; their metric is asked from
then on, until they say that they drain.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx

from support_kind import LABEL, Object, Served, connect, is_ready
from support_watch import Event, Watch

LOOK_SECONDS = 0.1
SILENT_LOOKS = 5
"""So many questions without an answer mean that the process has ended."""
LAST_WORDS = re.compile(r"draining .*in_flight=(\d+)")
STREAMS = re.compile(r"^glm5_experts_streams(?:{.*})? (\S+)$", re.MULTILINE)


@dataclass
class Farewell:
    """One pod that left."""

    role: str
    ready_at: float
    """When it became ready; when it was told to leave if it never was."""
    told_at: float
    compat: str
    """With which peers it worked; empty if it did not say."""
    held: float = -1.0
    """What it had open at its SIGTERM; -1 if it did not say."""
    ended_at: float = math.inf
    """When its processes had ended."""

    @property
    def ready_seconds(self) -> float:
        """Return how long it had been ready."""
        return self.told_at - self.ready_at


class Leaving:
    """Follows every pod that is told to leave inside the block."""

    def __init__(self, served: Served) -> None:
        self._base = f"/api/v1/namespaces/{served.namespace}/pods"
        self.pods = Watch(self._base, f"{LABEL}={served.name},serving.glm5.io/role", self._heard)
        self.farewells: dict[str, Farewell] = {}
        self._ready_at: dict[str, float] = {}
        self._compats: dict[str, str] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.pods.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            thread.join(60)
        self.pods.__exit__(kind, error, trace)

    def _heard(self, event: Event) -> None:
        if is_ready(event.live):
            if event.name not in self._ready_at:
                self._start(self._identify, event.name)
            self._ready_at[event.name] = _ready_since(event.live)
        if "deletionTimestamp" in event.live["metadata"] and event.name not in self.farewells:
            role = event.live["metadata"]["labels"]["serving.glm5.io/role"]
            ready_at, compat = self._ready_at.get(event.name, event.at), self._compats.get(event.name, "")
            self.farewells[event.name] = Farewell(role, ready_at, event.at, compat)
            self._start(self._ask if role == "experts" else self._listen, event.name, self.farewells[event.name])
        if (event.kind == "DELETED" or not _runs(event.live)) and (farewell := self.farewells.get(event.name)):
            farewell.ended_at = min(farewell.ended_at, event.at)

    def _start(self, follow: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=follow, args=arguments, daemon=True))
        self._threads[-1].start()

    def _identify(self, pod: str) -> None:
        """Ask whom a pod works with while it is well: one that leaves may be gone before it answers."""
        with connect(10) as client, suppress(httpx.HTTPError):
            self._compats[pod] = _state(client, f"{self._base}/{pod}:9100/proxy")["compat"]

    def _listen(self, pod: str, farewell: Farewell) -> None:
        """Follow the log to the line that says it."""
        query = {"follow": "true", "tailLines": "500"}
        with connect(None) as client, suppress(httpx.HTTPError):
            with client.stream("GET", f"{self._base}/{pod}/log", params=query) as answer:
                said = next(filter(None, map(LAST_WORDS.search, answer.iter_lines())), None)
            farewell.held = float(said[1]) if said else -1.0

    def _ask(self, pod: str, farewell: Farewell) -> None:
        """Ask for the streams of a shard until it drains or has ended."""
        silent, path = 0, f"{self._base}/{pod}:9100/proxy"
        with connect(10) as client:
            while silent < SILENT_LOOKS:
                try:
                    streams = _streams(client, path)
                    drains = _state(client, path)["draining"]
                except httpx.HTTPError:
                    silent += 1
                else:
                    silent, farewell.held = 0, max(farewell.held, streams)
                    if drains:
                        return
                time.sleep(LOOK_SECONDS)


def _runs(pod: Object) -> bool:
    """Return whether a process of the pod may be running."""
    return any("running" in one.get("state", {}) for one in pod["status"].get("containerStatuses", []))


def _ready_since(pod: Object) -> float:
    """Return when a pod that is ready became so, on the clock of `time.monotonic`, to a second."""
    since = next(one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "Ready")
    return time.monotonic() - (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()


def _state(client: httpx.Client, path: str) -> Object:
    found: Object = client.get(f"{path}/v1/state").raise_for_status().json()
    return found


def _streams(client: httpx.Client, path: str) -> float:
    page = client.get(f"{path}/metrics").raise_for_status().text
    return sum(map(float, STREAMS.findall(page)))
