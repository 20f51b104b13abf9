"""Which decode worker gets a stream: the least busy one that fits."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from glm5.v1 import peer_pb2 as pb
from glm5_spec.admin import PeerState
from glm5_wire.changes import Changes
from glm5_wire.errors import Unavailable
from glm5_wire.watcher import PeerHandle


class Registry(Protocol):
    """What is needed of `PeerRegistry`."""

    def peers(self, role: "pb.Role.ValueType") -> list[PeerHandle]:
        """Return the usable peers of a role."""

    def all_peers(self) -> list[PeerState]:
        """Return every peer, with the reason where it is not usable."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after each change."""

    def report_failure(self, handle: PeerHandle, error: BaseException | str) -> None:
        """Look at a peer again."""


class Workers:
    """The decode workers as this gateway sees them, with the streams that it has on each.

    Args:
        registry: knows who is there.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._streams: Counter[str] = Counter()
        self.changes = Changes()
        registry.on_change(self.changes.notify)

    def usable(self) -> list[PeerHandle]:
        """Return the workers that can answer now: usable, and every expert in their reach."""
        return [handle for handle in self._registry.peers(pb.ROLE_DECODE) if handle.peer.covered]

    def pick(
        self, *, compat: str = "", fingerprint: str = "", avoid: frozenset[str] = frozenset()
    ) -> PeerHandle | None:
        """Return the best worker, None if none fits.

        Args:
            compat: the only one allowed; empty for any.
            fingerprint: of the kernels that began the stream; equal ones are preferred.
            avoid: incarnations that failed this stream; they come last.
        """
        fitting = [handle for handle in self.usable() if compat in ("", handle.peer.compat)]
        return min(fitting, key=lambda handle: self._cost(handle, fingerprint, avoid), default=None)

    def _cost(self, handle: PeerHandle, fingerprint: str, avoid: frozenset[str]) -> tuple[bool, bool, int, str]:
        """Return what to minimise; the name breaks ties, so that choices repeat."""
        peer = handle.peer
        other_kernels = bool(fingerprint) and peer.kernel_fingerprint != fingerprint
        return peer.incarnation in avoid, other_kernels, self._streams[peer.incarnation], peer.name

    @contextmanager
    def counted(self, handle: PeerHandle) -> Iterator[None]:
        """Count a stream on `handle` during the `with` block."""
        key = handle.peer.incarnation
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    def report_failure(self, handle: PeerHandle, error: BaseException) -> None:
        """Have a worker looked at again before it is used again."""
        self._registry.report_failure(handle, error)

    def missing(self) -> str:
        """Return in words why nobody can answer; empty when somebody can."""
        if self.usable():
            return ""
        uncovered = [handle.peer for handle in self._registry.peers(pb.ROLE_DECODE)]
        if uncovered:
            return "; ".join(f"{peer.name}: {peer.missing or 'not every expert is in reach'}" for peer in uncovered)
        known = [state for state in self._registry.all_peers() if state.role == "decode"]
        return (
            "; ".join(f"{state.name or state.address}: {state.reason}" for state in known)
            or "no decode worker is known"
        )

    def unavailable(self) -> Unavailable:
        """Return the error for a request that nobody can answer now."""
        return Unavailable(
            "no decode worker can answer", "", self.missing() or "none fits", "try again", retry_after=1.0
        )

    def shortest_model_len(self, configured: int) -> int:
        """Return the largest length in tokens that every known worker has room for, at most `configured`."""
        lengths = [handle.peer.max_model_len for handle in self._registry.peers(pb.ROLE_DECODE)]
        return min([configured, *(length for length in lengths if length)])
