"""Everything that happened to objects of the kind cluster while a block ran, as the API server told it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from support_kind import Object, connect, get, is_ready


@dataclass(frozen=True, slots=True)
class Event:
    """One change of an object."""

    at: float
    """time.monotonic() at which it was heard."""
    kind: str
    """ADDED, MODIFIED or DELETED."""
    live: Object

    @property
    def name(self) -> str:
        """Return the name of the object."""
        return str(self.live["metadata"]["name"])


class Watch:
    """A watch of a list; as a context manager it hears every change inside the block, and tells `heard` at once."""

    def __init__(self, path: str, selector: str = "", heard: Callable[[Event], None] = lambda event: None) -> None:
        self._path, self._selector, self._heard = path, selector, heard
        self._events: list[Event] = []
        self._stop = threading.Event()
        self._client: httpx.Client | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        found = get(self._path, labelSelector=self._selector)
        self._events = [Event(time.monotonic(), "ADDED", one) for one in found["items"]]
        self._version = found["metadata"]["resourceVersion"]
        for event in self._events:
            self._heard(event)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._client is not None:
            self._client.close()

    @property
    def events(self) -> list[Event]:
        """Return what was heard so far."""
        return list(self._events)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (httpx.HTTPError, OSError, RuntimeError):  # the API server went, or the client was closed
                self._stop.wait(0.5)

    def _listen(self) -> None:
        query = {"watch": "1", "resourceVersion": self._version, "labelSelector": self._selector}
        with connect(None) as self._client, self._client.stream("GET", self._path, params=query) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                    raise RuntimeError(f"the watch of {self._path} lost events: {line}")
                self._version = event["object"]["metadata"]["resourceVersion"]
                self._events.append(Event(time.monotonic(), event["type"], event["object"]))
                self._heard(self._events[-1])


def gone(events: list[Event]) -> set[str]:
    """Return the names of pods that were Ready and are gone."""
    ready = {event.name for event in events if is_ready(event.live)}
    return ready & {event.name for event in events if event.kind == "DELETED"}


def left_ready(events: list[Event]) -> set[str]:
    """Return the names of pods that were Ready and then were not, though nobody had asked them to go."""
    ready: dict[str, bool] = {}
    found = set()
    for event in events:
        now = event.kind != "DELETED" and is_ready(event.live)
        leaving = event.kind == "DELETED" or "deletionTimestamp" in event.live["metadata"]
        if ready.get(event.name) and not now and not leaving:
            found.add(event.name)
        ready[event.name] = now
    return found


def condition_times(events: list[Event], kind: str, status: str) -> list[float]:
    """Return when a condition was seen to become `status`."""
    found, before = [], ""
    for event in events:
        conditions = event.live.get("status", {}).get("conditions", [])
        now = next((one["status"] for one in conditions if one["type"] == kind), "")
        if now == status != before:
            found.append(event.at)
        before = now
    return found
