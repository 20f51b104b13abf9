"""The operator's process: what runs side by side, from start to the last word."""

import asyncio
import contextlib
import logging

from glm5_operator import metrics, tracing
from glm5_operator.api import Api, connect
from glm5_operator.errors import OperatorError
from glm5_operator.executor import Executor
from glm5_operator.failpoint import Failpoint
from glm5_operator.kinds import GLM5_DEPLOYMENT
from glm5_operator.lease import Leadership
from glm5_operator.liveness import Liveness
from glm5_operator.manifests import Environment
from glm5_operator.poll import Poller
from glm5_operator.queue import Key, Queue
from glm5_operator.reconcile import Reconciler
from glm5_operator.settings import Settings
from glm5_operator.watch import Watch
from glm5_operator.web import Web

SELF_TEST_SECONDS = 20.0
"""Pause between two comparisons of the watch with the API server."""
log = logging.getLogger(__name__)


class Operator:
    """One replica of the operator."""

    def __init__(self, settings: Settings, api: Api) -> None:
        self._settings = settings
        self._api = api
        self._leadership = Leadership(api, settings)
        self._liveness = Liveness(settings.deaf_seconds)
        self._web = Web(settings, self._liveness)
        self._queue = Queue(self._work)
        self._poller = Poller(self._news, settings.poll_seconds)
        self._watch = Watch(settings, self._news, self._liveness.seen)
        executor = Executor(api, self._leadership.check, Failpoint(settings.failpoint_write))
        environment = Environment(settings.namespace, settings.metrics_namespaces)
        check = self._leadership.check
        self._reconciler = Reconciler(api, executor, self._poller, check, environment, settings.resync_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then give the lease back."""
        tracing.start(self._settings.otlp_endpoint)
        await self._web.start()
        try:
            async with asyncio.TaskGroup() as group:
                parts = (self._leadership.run(), self._queue.run(), self._poller.run(), self._watch.run())
                tasks = [group.create_task(part) for part in (*parts, self._lead(), self._self_test())]
                self._web.ready = True
                await stop.wait()
                log.info("stopping")
                for task in tasks:
                    task.cancel()
        finally:
            with contextlib.suppress(OperatorError, TimeoutError):
                await self._leadership.release()
            await self._web.stop()

    async def _work(self, key: Key) -> float | None:
        """Do a pass if we lead; nothing is lost if not, since a new leader looks at everything."""
        return await self._reconciler(key) if self._leadership.acquired.is_set() else None

    def _news(self, key: Key) -> None:
        self._queue.put(key)

    async def _lead(self) -> None:
        """Look at every deployment whenever we begin to lead."""
        while True:
            await self._leadership.acquired.wait()
            if await self._enqueue_all():
                await self._leadership.lost.wait()
            else:
                await asyncio.sleep(self._settings.retry_seconds)

    async def _self_test(self) -> None:
        """Compare the watch with the API server, and make up for what it missed."""
        while True:
            await asyncio.sleep(SELF_TEST_SECONDS)
            try:
                for key in self._liveness.read(await self._versions()):
                    self._queue.put(key)
            except OperatorError:
                self._liveness.unread()

    async def _enqueue_all(self) -> bool:
        try:
            versions = await self._versions()
        except OperatorError as error:
            log.warning("deployments not listed error=%s", error)
            return False
        for key, _ in versions:
            self._queue.put(key, 0.0)
        return True

    async def _versions(self) -> list[tuple[Key, str]]:
        """Return every deployment that we serve with its resourceVersion."""
        lists = [await self._api.list(GLM5_DEPLOYMENT, where) for where in self._settings.watch_namespaces or ("",)]
        found = [one["metadata"] for items in lists for one in items]
        metrics.DEPLOYMENTS.set(len(found))
        return [((one["namespace"], one["name"]), one["resourceVersion"]) for one in found]


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run a replica of the operator until `stop` is set."""
    api = await connect(settings.kubeconfig)
    try:
        await Operator(settings, api).run(stop)
    finally:
        await api.close()
