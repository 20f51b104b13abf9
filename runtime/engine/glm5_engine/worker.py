"""What prefill and decode processes have in common: load, run the engine, say how it is, drain, stop."""

import asyncio
import logging
from typing import Any

import torch

from glm5.v1 import peer_pb2
from glm5_engine.driver import Driver
from glm5_engine.engine import Engine, StartFetch
from glm5_engine.loaded import Loaded, load
from glm5_engine.stream import Streams
from glm5_spec.admin import RoleState
from glm5_spec.settings import WorkerSettings
from glm5_wire.errors import Incompatible, Unavailable
from glm5_wire.life import Life
from glm5_wire.tensors.experts import ExpertPool

log = logging.getLogger(__name__)


class Worker:
    """The part of a role service that both attention workers share; the roles add their gRPC service.

    Args:
        settings: of the worker.
        life: of the process.
    """

    def __init__(self, settings: WorkerSettings, life: Life) -> None:
        self.life, self.settings = life, settings
        self.streams = Streams(settings.detection_seconds, settings.name)
        self._loaded: Loaded | None = None
        self._engine: Engine | None = None
        self._pool: ExpertPool | None = None
        self._progress = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._was_ready = False
        self._covered, self._missing = False, "the weights are not loaded yet"

    @property
    def engine(self) -> Engine:
        """Return the engine.

        Raises:
            Unavailable: the weights are not loaded yet.
        """
        if self._engine is None:
            why = f"it has loaded {self._progress:.0%} of its weights"
            raise Unavailable("worker not ready", self.settings.name, why, "try later or elsewhere")
        return self._engine

    @property
    def loaded(self) -> Loaded:
        """Return what is in memory; as `engine`."""
        if self._loaded is None:
            raise Unavailable("worker not ready", self.settings.name, "it loads", "try later or elsewhere")
        return self._loaded

    def check_compat(self, wanted: str) -> None:
        """Refuse a caller of another compat; an empty one fits any.

        Raises:
            Incompatible: it differs from ours.
        """
        if wanted and wanted != self.loaded.compat:
            why = f"the caller has compat {wanted}, this worker {self.loaded.compat}"
            raise Incompatible("request refused", self.settings.name, why, "use a worker of the caller's compat")

    def start_fetch(self) -> StartFetch | None:
        """Return how rows are fetched from elsewhere; overridden by roles that do. Called once, after loading."""
        return None

    async def start(self) -> None:
        """Load in a thread, then run the engine.

        Raises:
            StartupError: the checkpoint or a setting is wrong.
        """
        torch.set_num_threads(self.settings.num_threads)
        loaded = self._loaded = await asyncio.to_thread(load, self.settings, self._note_progress)
        settings = self.settings
        self._pool = ExpertPool(
            self.life.registry,
            loaded.compat,
            loaded.config.hidden_size,
            loaded.dtype,
            settings.detection_seconds,
            settings.expert_timeout_seconds,
            settings.reply_mode,
            settings.weight_version,
            settings.name,
        )
        driver = Driver(self._pool, settings.role, settings.num_threads)
        fetch = self.start_fetch()
        engine = Engine(loaded.transformer, loaded.cache, driver, settings, loaded.facts, fetch)
        self._engine = engine
        self.life.progress = lambda: engine.progress
        self._pool.on_change(self._look_around)
        self.life.registry.on_change(self._look_around)
        self._look_around()
        self._tasks = [asyncio.create_task(engine.run(), name="engine"), asyncio.create_task(self.streams.run())]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def state(self) -> RoleState:
        """Return the state of now."""
        reason = self._reason()
        self._was_ready |= not reason
        facts: dict[str, Any] = {}
        if self._loaded is not None:
            facts = {"compat": self._loaded.compat, "kernel_fingerprint": self._loaded.kernels.fingerprint}
        return self.life.state(
            started=self._engine is not None,
            ready=self._was_ready,
            reason="" if self._was_ready else reason,
            in_flight=self._engine.num_requests if self._engine else 0,
            loading_progress=1.0 if self._engine else self._progress,
            covered=self._covered,
            missing=self._missing,
            weight_version=self.settings.weight_version,
            shard_peers=self._pool.shard_names() if self._pool else [],
            **facts,
        )

    def describe(self, peer: peer_pb2.Peer) -> None:
        """Fill in what peers are told."""
        loaded = self._loaded
        if loaded is None or self._engine is None:
            return
        peer.ready = True
        peer.compat, peer.model_digest = loaded.compat, loaded.digest
        peer.weight_version, peer.kernel_fingerprint = self.settings.weight_version, loaded.kernels.fingerprint
        peer.max_model_len, peer.vocab_size = loaded.facts.max_model_len, loaded.facts.vocab_size
        peer.eos_token_ids.extend(loaded.facts.eos_token_ids)
        peer.covered, peer.missing = self._covered, self._missing

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let the running work end, and after `seconds` give the rest up."""
        if self._engine is not None:
            self._engine.is_draining = True
        await self.streams.drain(seconds)

    async def stop(self) -> None:
        """End the engine."""
        for task in self._tasks:
            task.remove_done_callback(self._ended)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._engine is not None:
            self._engine.close()
        if self._pool is not None:
            await self._pool.close()

    def _look_around(self) -> None:
        """Note whether every expert can be reached, and tell everybody who watches us."""
        if self._pool is not None and self._loaded is not None:
            self._covered, self._missing = self._pool.coverage(self._loaded.config)
        self.life.registry.notify()

    def _reason(self) -> str:
        """Return why the worker is not ready; only for as long as it has never been."""
        if self._engine is None:
            return f"loading weights: {self._progress:.0%}"
        if not self._covered:
            return f"experts missing: {self._missing}"
        untold = self.life.registry.untold(peer_pb2.ROLE_GATEWAY)
        return f"gateways not told yet: {', '.join(untold)}" if untold else ""

    def _note_progress(self, share: float) -> None:
        self._progress = share

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the process where a task that must run for ever has ended."""
        if not task.cancelled():
            self.life.fail(f"task {task.get_name()} ended: {task.exception()!r}")
