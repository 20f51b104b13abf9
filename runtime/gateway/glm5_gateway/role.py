"""The gateway as a role: start, readiness, drain, stop."""

import asyncio
import logging
from functools import partial

from glm5.v1 import peer_pb2 as pb
from glm5.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from glm5_gateway.api import Api
from glm5_gateway.dispatch.admission import Admission
from glm5_gateway.dispatch.generation import Patience
from glm5_gateway.dispatch.workers import Workers
from glm5_gateway.http.app import Front, build_app
from glm5_gateway.http.listener import listener
from glm5_gateway.keys import Keys
from glm5_gateway.rpc import InferenceServicer
from glm5_gateway.served import ServedModel
from glm5_spec.admin import RoleState
from glm5_spec.settings import GatewaySettings
from glm5_wire.life import Life

log = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 2.0
_QUIET_SECONDS = 2.0
"""Whoever keeps a connection may ask on it once more before an answer tells them to close it."""


class GatewayService:
    """One gateway process.

    Args:
        settings: of this process.
        life: server, registry and identity.

    Raises:
        StartupError: the checkpoint's text files or the keys are missing or damaged.
    """

    def __init__(self, settings: GatewaySettings, life: Life) -> None:
        self._settings, self._life = settings, life
        served = ServedModel.from_dir(settings.model_path, settings.served_names)
        keys = Keys(settings.api_key_file)
        patience = Patience(
            max_attempts=settings.max_attempts,
            retry_seconds=settings.retry_seconds,
            detection_seconds=settings.detection_seconds,
            timeout_seconds=settings.request_timeout_seconds,
        )
        self._workers = Workers(life.registry)
        self._admission = Admission(settings.max_running, settings.max_queue)
        self._leaving = asyncio.Event()
        api = Api(served, self._workers, self._admission, patience)
        front = Front(
            keys=keys,
            max_body_bytes=settings.max_body_bytes,
            hold_seconds=settings.first_token_hold_seconds,
            leaving=self._leaving,
            draining=lambda: life.draining,
        )
        self._listener = listener(settings.host, settings.http_port, build_app(api, front))
        servicer = InferenceServicer(api, keys, self._leaving)
        life.server.add(partial(add_InferenceServiceServicer_to_server, servicer))

    async def start(self) -> None:
        """Listen for clients."""
        await self._listener.start()
        log.info("listening http=%s:%d", self._settings.host, self._listener.port)

    @property
    def _reason(self) -> str:
        """Return why this process is not ready; empty when it is."""
        if not self._listener.port:
            return "the HTTP port is not open yet"
        return "" if self._life.registry.looked else "the first look for decode workers is not done"

    def state(self) -> RoleState:
        """Return the state of now."""
        missing = self._workers.missing()
        return self._life.state(
            started=bool(self._listener.port),
            ready=not self._reason,
            reason=self._reason,
            in_flight=self._admission.in_flight,
            loading_progress=1.0,
            covered=not missing,
            missing=missing,
        )

    def describe(self, peer: pb.Peer) -> None:
        """Tell peers whether this process is ready."""
        peer.ready = not self._reason

    async def drain(self, seconds: float) -> None:
        """Serve on until nothing comes or runs, or until the time is over; end what is left with a retriable error."""
        await self._admission.until_quiet(seconds, _QUIET_SECONDS)
        self._leaving.set()

    async def stop(self) -> None:
        """Let the last words out and close the port."""
        self._leaving.set()
        await self._listener.stop(_LAST_WORDS_SECONDS)
