"""Are we deaf? Alive means: what the API server tells when asked, our watch has told before long.

An API server that is away proves nothing, and ends nobody: only an answer that our watch failed to bring does.
"""

import logging
import time
from collections.abc import Iterable

from glm5_operator import metrics
from glm5_operator.queue import Key

log = logging.getLogger(__name__)


class Liveness:
    """Holds what the watch brought against what was read."""

    def __init__(self, deaf_seconds: float) -> None:
        self._deaf_seconds = deaf_seconds
        self._seen: dict[Key, str] = {}
        self._since: dict[Key, float] = {}
        self._deaf_for = 0.0

    def seen(self, key: Key, version: str) -> None:
        """Note that the watch brought this version of a deployment; an empty one means that it is gone."""
        self._since.pop(key, None)
        if version:
            self._seen[key] = version
        else:
            self._seen.pop(key, None)

    def read(self, versions: Iterable[tuple[Key, str]]) -> list[Key]:
        """Note what the API server has now; return the deployments of which the watch does not know that yet."""
        now, current = time.monotonic(), dict(versions)
        news = [key for key in {**self._seen, **current} if self._seen.get(key) != current.get(key)]
        self._since = {key: self._since.get(key, now) for key in news}
        self._deaf_for = now - min(self._since.values(), default=now)
        metrics.DEAF_SECONDS.set(self._deaf_for)
        return news

    def unread(self) -> None:
        """Note that the API server did not answer: what was missed before proves nothing any more."""
        self._since = {}
        self._deaf_for = 0.0

    def deaf_for(self) -> float:
        """Return for how long there had been news, when it was last read, that the watch did not bring (seconds)."""
        return self._deaf_for

    @property
    def alive(self) -> bool:
        """Return whether the watch may be trusted."""
        return self.deaf_for() < self._deaf_seconds
