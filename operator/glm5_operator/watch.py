"""News from the API server: kopf watches the deployments and, by label on the server, their children.

The only module that knows kopf, and from it only `on.event`, the login, settings and logging are used: no handler that
would leave finalizers or annotations on objects. kopf runs in a thread with a loop of its own; what it hears is one
call with a key. Whatever ends it, it is started again.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import kopf
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from glm5_operator import metrics
from glm5_operator.kinds import CHILDREN, GLM5_DEPLOYMENT, Kind
from glm5_operator.names import DEPLOYMENT_LABEL
from glm5_operator.queue import Key
from glm5_operator.settings import Settings

RESTART_SECONDS = 2.0
log = logging.getLogger(__name__)


class Backoffs:
    """Pauses between attempts of one request, without end: waiting for the API server never ends the process."""

    def __iter__(self) -> Iterator[float]:
        """Return 1, 2, 3 seconds and then 5 for ever."""
        yield from (1.0, 2.0, 3.0)
        while True:
            yield 5.0


class Watch:
    """Runs kopf and passes its news on."""

    def __init__(self, settings: Settings, news: Callable[[Key], None], seen: Callable[[Key, str], None]) -> None:
        """Take who is told of news, and who is told which version of a deployment (empty: gone) was seen.

        Both are called on the loop on which `run` is awaited.
        """
        self._settings = settings
        self._news = news
        self._seen = seen
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._thread, name="kopf", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stop.set()
            await asyncio.to_thread(thread.join, 10.0)

    def _thread(self) -> None:
        while not self._stop.is_set():
            try:
                asyncio.run(self._operator())
            except Exception as error:  # noqa: BLE001 - whatever ends kopf, we need to go on hearing
                log.warning("watches ended error=%r", error)
            self._stop.wait(RESTART_SECONDS)

    async def _operator(self) -> None:
        await kopf.operator(
            registry=self._registry(),
            settings=_kopf_settings(),
            standalone=True,
            clusterwide=not self._settings.watch_namespaces,
            namespaces=self._settings.watch_namespaces,
            stop_flag=self._stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in (GLM5_DEPLOYMENT, *CHILDREN):
            version = kind.api_version.rpartition("/")[2]
            kopf.on.event(kind.group, version, kind.plural, registry=registry)(self._handler(kind))
        return registry

    def _handler(self, kind: Kind) -> Callable[..., Any]:
        async def handle(event: dict[str, Any], **_: Any) -> None:
            self._tell(kind, event)

        handle.__name__ = kind.plural
        return handle

    def _tell(self, kind: Kind, event: dict[str, Any]) -> None:
        """Pass an event on, from kopf's thread to our loop."""
        assert self._loop is not None
        metrics.WATCH_EVENTS.labels(kind=kind.kind).inc()
        metadata = event["object"]["metadata"]
        if kind is GLM5_DEPLOYMENT:
            key = (metadata["namespace"], metadata["name"])
            version = "" if event["type"] == "DELETED" else metadata["resourceVersion"]
            self._loop.call_soon_threadsafe(self._seen, key, version)
        else:
            key = (metadata["namespace"], (metadata.get("labels") or {}).get(DEPLOYMENT_LABEL, ""))
        if key[1]:
            self._loop.call_soon_threadsafe(self._news, key)

    async def _login(self, **kwargs: Any) -> kopf.ConnectionInfo | None:
        if not self._settings.kubeconfig:
            return kopf.login_with_service_account(**kwargs)
        configuration = Configuration()
        await load_kube_config(config_file=self._settings.kubeconfig, client_configuration=configuration)
        scheme, _, token = str(configuration.api_key.get("BearerToken", "")).rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            scheme=scheme or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.error_backoffs = Backoffs()
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 5.0
    settings.watching.server_timeout = 240
    settings.watching.connect_timeout = 5.0
    settings.queueing.idle_timeout = 1.0
    for kind in CHILDREN:
        version = kind.api_version.rpartition("/")[2]
        settings.watching.label_selectors[kind.group, version, kind.plural] = DEPLOYMENT_LABEL
    return settings
