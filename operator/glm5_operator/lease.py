"""Who of the replicas acts: a Lease, taken when it is free or was not renewed for long enough.

How long is long is measured here, on a monotonic clock, from the moment at which this process saw the lease change: no
two clocks are ever compared.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from glm5_operator import metrics
from glm5_operator.api import Api
from glm5_operator.errors import NotLeader, Rejected, Unreachable
from glm5_operator.kinds import LEASE, Manifest
from glm5_operator.names import FIELD_MANAGER
from glm5_operator.settings import Settings

log = logging.getLogger(__name__)


class Leadership:
    """Gets, keeps and gives back the lease."""

    def __init__(self, api: Api, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = time.monotonic()
        self._renewed_at = float("-inf")
        self.acquired = asyncio.Event()
        """Set while the lease is ours, as far as we know."""
        self.lost = asyncio.Event()
        """Set while it is not."""
        self.lost.set()

    def check(self) -> None:
        """Raise NotLeader unless the lease was renewed in the last `renew_seconds`."""
        if time.monotonic() - self._renewed_at >= self._settings.renew_seconds:
            self._lost("not renewed in time")
            raise NotLeader("the lease is not ours")

    async def run(self) -> None:
        """Compete for the lease until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._settings.renew_seconds / 2):
                    await self._try()
            except (Unreachable, Rejected, TimeoutError) as error:
                log.warning("lease not renewed error=%s", error or type(error).__name__)
            if self.acquired.is_set() and time.monotonic() - self._renewed_at >= self._settings.renew_seconds:
                self._lost("not renewed in time")
            await asyncio.sleep(self._settings.retry_seconds)

    async def release(self) -> None:
        """Give the lease back, so that another replica need not wait for its end."""
        if not self.acquired.is_set():
            return
        self._lost("released")
        lease = await self._read()
        if lease is not None and lease["spec"].get("holderIdentity") == self._settings.identity:
            await self._api.replace(_with(lease, holderIdentity="", leaseDurationSeconds=1), FIELD_MANAGER)

    async def _try(self) -> None:
        begun = time.monotonic()
        lease = await self._read()
        if lease is None:
            await self._api.create(self._new(), FIELD_MANAGER)
            return self._won(begun)
        holder = lease["spec"].get("holderIdentity") or ""
        self._note(lease)
        if holder and holder != self._settings.identity and not self._expired(lease):
            return self._lost(f"held by {holder}") if self.acquired.is_set() else None
        changes: dict[str, Any] = {"renewTime": _now()}
        if holder != self._settings.identity:
            count = int(lease["spec"].get("leaseTransitions") or 0)
            changes |= {"acquireTime": _now(), "leaseTransitions": count + 1, **self._claim()}
        try:
            await self._api.replace(_with(lease, **changes), FIELD_MANAGER)
        except Rejected as error:
            if error.status != 409:
                raise
            return  # somebody else was faster, or our own earlier write arrived late; look again
        self._won(begun)

    async def _read(self) -> Manifest | None:
        return await self._api.get(LEASE, self._settings.namespace, self._settings.lease_name)

    def _note(self, lease: Manifest) -> None:
        """Remember when the lease was last seen to change."""
        seen = (lease["metadata"]["resourceVersion"], lease["metadata"]["uid"])
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()

    def _expired(self, lease: Manifest) -> bool:
        seconds = float(lease["spec"].get("leaseDurationSeconds") or self._settings.lease_seconds)
        return time.monotonic() - self._seen_at > seconds

    def _claim(self) -> dict[str, Any]:
        seconds = max(1, round(self._settings.lease_seconds))
        return {"holderIdentity": self._settings.identity, "leaseDurationSeconds": seconds}

    def _new(self) -> Manifest:
        times = {"acquireTime": _now(), "renewTime": _now(), "leaseTransitions": 0}
        metadata = {"name": self._settings.lease_name, "namespace": self._settings.namespace}
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": self._claim() | times,
        }

    def _won(self, begun: float) -> None:
        self._renewed_at = begun  # the server may have taken it at any moment since
        if not self.acquired.is_set():
            log.info("lease acquired identity=%s", self._settings.identity)
            self.acquired.set()
            self.lost.clear()
            metrics.LEADER.set(1)

    def _lost(self, why: str) -> None:
        self._renewed_at = float("-inf")
        if self.acquired.is_set():
            log.warning("lease lost why=%s", why)
            self.acquired.clear()
            self.lost.set()
            metrics.LEADER.set(0)


def _with(lease: Manifest, **changes: Any) -> Manifest:
    return {**lease, "spec": {**lease["spec"], **changes}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
