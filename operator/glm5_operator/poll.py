"""Asks every process of the data plane for its `/v1/state`, and remembers the answers for a few seconds."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from glm5_operator import metrics, objects
from glm5_operator.kinds import Manifest
from glm5_operator.manifests import ADMIN_PORT
from glm5_operator.names import ROLE_LABEL
from glm5_operator.queue import Key
from glm5_spec.admin import RoleState
from glm5_spec.resource import GLM5Deployment

TIMEOUT_SECONDS = 2.0
WIDTH = 64
"""Questions at once."""
_RESTLESS = {"in_flight": 0, "memory_bytes": 0, "loading_progress": 0.0, "peers": [], "last_error": ""}
"""Fields whose change is no news for the planner."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A pod to ask."""

    uid: str
    address: str
    deployment: str
    """UID of the deployment to which it belongs."""
    key: Key


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pod said, and when."""

    state: RoleState
    at: float


class Poller:
    """Keeps the answers of all pods that passes have seen."""

    def __init__(self, news: Callable[[Key], None], poll_seconds: float, port: int = ADMIN_PORT) -> None:
        """Take who is told when an answer changes."""
        self._news = news
        self._poll_seconds = poll_seconds
        self._port = port
        self._targets: dict[Key, dict[str, Target]] = {}
        self._answers: dict[str, Answer] = {}

    def watch(self, key: Key, deployment: str, pods: Iterable[Manifest]) -> None:
        """Ask these pods from now on for the deployment `key`, and no others."""
        asked = [pod for pod in pods if objects.label(pod, ROLE_LABEL) and objects.running(pod) and _ip(pod)]
        self._targets[key] = {
            objects.name(pod): Target(pod["metadata"]["uid"], _host(_ip(pod)), deployment, key) for pod in asked
        }
        known = {target.uid for targets in self._targets.values() for target in targets.values()}
        self._answers = {uid: answer for uid, answer in self._answers.items() if uid in known}

    def forget(self, key: Key) -> None:
        """Ask no pod of the deployment any more."""
        self.watch(key, "", ())
        self._targets.pop(key, None)

    async def states(self, deployment: GLM5Deployment, pods: list[Manifest]) -> dict[str, RoleState]:
        """Return the fresh answers of the pods of `deployment` by name; pods that are new to us are asked now.

        So the first pass of a process that was just started does not take every pod for silent.
        """
        metadata = deployment.metadata
        key = (metadata.namespace, metadata.name)
        known = {target.uid for target in self._targets.get(key, {}).values()}
        self.watch(key, metadata.uid, pods)
        new = [target for target in self._targets[key].values() if target.uid not in known]
        if new:
            async with self._client() as client:
                await asyncio.gather(*(self._ask(client, target) for target in new))
        return self._fresh(pods)

    def _fresh(self, pods: Iterable[Manifest]) -> dict[str, RoleState]:
        oldest = time.monotonic() - 3 * self._poll_seconds - TIMEOUT_SECONDS
        answers = {objects.name(pod): self._answers.get(pod["metadata"]["uid"]) for pod in pods}
        return {name: answer.state for name, answer in answers.items() if answer is not None and answer.at > oldest}

    async def run(self) -> None:
        """Ask until cancelled."""
        async with self._client() as client:
            while True:
                targets = [target for found in self._targets.values() for target in found.values()]
                await asyncio.gather(*(self._ask(client, target) for target in targets))
                await asyncio.sleep(self._poll_seconds)

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=WIDTH, max_keepalive_connections=WIDTH)
        # Questions above the limit wait for a connection, and that is no silence of the pod.
        timeout = httpx.Timeout(TIMEOUT_SECONDS, pool=None)
        return httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def _ask(self, client: httpx.AsyncClient, target: Target) -> None:
        state = await self._state(client, target)
        before = self._answers.get(target.uid)  # looked up now: a pass may have forgotten the pod meanwhile
        if state is None:
            if before is not None and time.monotonic() - before.at > 3 * self._poll_seconds + TIMEOUT_SECONDS:
                del self._answers[target.uid]
                self._news(target.key)
            return
        self._answers[target.uid] = Answer(state, time.monotonic())
        if before is None or _news(before.state) != _news(state):
            self._news(target.key)

    async def _state(self, client: httpx.AsyncClient, target: Target) -> RoleState | None:
        try:
            answer = await client.get(f"http://{target.address}:{self._port}/v1/state")
            answer.raise_for_status()
            state = RoleState.model_validate_json(answer.content, extra="ignore")
        except (httpx.HTTPError, ValidationError) as error:
            metrics.POLLS.labels(result="failed").inc()
            log.debug("no state address=%s error=%s", target.address, error or type(error).__name__)
            return None
        metrics.POLLS.labels(result="ok").inc()
        # An address is reused: only a process of this deployment speaks for its pod.
        return state if state.deployment == target.deployment else None


def _news(state: RoleState) -> RoleState:
    return state.model_copy(update=_RESTLESS)


def _ip(pod: Manifest) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
