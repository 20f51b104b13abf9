"""The role service of a shard: load the slice, serve it, leave when nobody needs it."""

import asyncio
import logging
from time import monotonic

import torch

from glm5.v1 import peer_pb2
from glm5_experts import figures
from glm5_experts.check import Checker
from glm5_experts.load import Load
from glm5_experts.loaded import Loaded, load
from glm5_experts.runner import Runner
from glm5_experts.streams import Streams
from glm5_spec.admin import Holding, RoleState
from glm5_spec.settings import ShardSettings
from glm5_wire.life import Life

log = logging.getLogger(__name__)

_QUIET_SECONDS = 1.0
"""A leaving shard on whose streams nothing has come for this long is not needed any more."""


class Shard:
    """An experts shard.

    Args:
        settings: of the shard.
        life: of the process.
    """

    def __init__(self, settings: ShardSettings, life: Life) -> None:
        self._settings, self._life = settings, life
        self._streams = Streams(life.peer, settings.window, min(1.0, settings.detection_seconds / 4))
        life.server.add(self._streams.add_to)
        self._loaded: Loaded | None = None
        self._share = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load in a thread, then serve.

        Raises:
            StartupError: the checkpoint or a setting is wrong.
        """
        settings = self._settings
        torch.set_num_threads(settings.num_threads)
        loaded = await asyncio.to_thread(load, settings, self._note_share)
        counters = Load(loaded.held, loaded.config.num_experts)
        figures.LOAD.read = counters.samples
        runner = Runner(loaded.weights, loaded.kernels, counters, settings.max_queue_bytes, settings.num_threads)
        self._streams.runner = runner
        self._streams.checker = Checker(
            settings.name,
            loaded.held,
            loaded.config.num_experts,
            loaded.config.hidden_size,
            loaded.dtype,
            settings.weight_version,
            settings.numerics == "fast",
        )
        self._life.progress = lambda: runner.progress
        self._task = asyncio.create_task(runner.run(), name="runner")
        self._task.add_done_callback(self._ended)
        self._loaded = loaded
        log.info("experts loaded slice=%s layers=%d", loaded.slice, len(loaded.held))

    def state(self) -> RoleState:
        """Return the state of now."""
        loaded, settings = self._loaded, self._settings
        runner = self._streams.runner
        return self._life.state(
            started=loaded is not None,
            ready=loaded is not None,
            reason="" if loaded else f"loading experts: {self._share:.0%}",
            compat=loaded.compat if loaded else "",
            weight_version=settings.weight_version,
            kernel_fingerprint=loaded.kernels.fingerprint if loaded else "",
            in_flight=len(runner) if runner else 0,
            loading_progress=1.0 if loaded else self._share,
            holdings=[Holding(layer=layer, first=first, count=count) for layer, first, count in loaded.runs]
            if loaded
            else [],
            group=settings.group,
        )

    def describe(self, peer: peer_pb2.Peer) -> None:
        """Fill in what peers are told."""
        loaded, settings = self._loaded, self._settings
        peer.group = settings.group
        if loaded is None:
            return
        peer.ready = True
        peer.compat, peer.model_digest = loaded.compat, loaded.digest
        peer.weight_version, peer.kernel_fingerprint = settings.weight_version, loaded.kernels.fingerprint
        peer.holdings.extend(loaded.holdings)

    async def drain(self, seconds: float) -> None:
        """Tell every stream, serve on while somebody needs it, then refuse what still comes.

        A worker that knows another holder leaves at once; one that does not goes on using this shard meanwhile.
        """
        runner = self._streams.runner
        if runner is None:
            return
        self._streams.announce_draining()
        deadline, begun = monotonic() + seconds, monotonic()
        while self._streams and monotonic() < deadline:
            if not len(runner) and monotonic() - max(runner.worked_at, begun) > _QUIET_SECONDS:
                break
            await asyncio.sleep(0.05)
        self._streams.refusing = True
        while len(runner) and monotonic() < deadline + _QUIET_SECONDS:  # noqa: ASYNC110 - a deadline ends it too
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End the runner."""
        if self._task is not None:
            self._task.remove_done_callback(self._ended)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._streams.runner is not None:
            self._streams.runner.close()

    def _note_share(self, share: float) -> None:
        self._share = share

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the process where the runner has ended by itself."""
        if not task.cancelled():
            self._life.fail(f"runner ended: {task.exception()!r}")
