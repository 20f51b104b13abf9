"""Candidates from headless Services: every A and AAAA record is one. DNS is only the bootstrap."""

import asyncio
import logging

import dns.asyncresolver
import dns.exception
import dns.resolver

from glm5_spec.settings import RoleName
from glm5_wire.candidates import Candidates
from glm5_wire.errors import StartupError

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0


class DnsSource:
    """Looks names up.

    Args:
        names: role to `host:port`.
        server: `host:port` of a resolver; None takes the system's.

    Raises:
        StartupError: a name or the server is not `host:port`, or the system has no resolver configuration.
    """

    def __init__(self, names: dict[RoleName, str], server: str | None) -> None:
        self._names = {role: split_port(name, f"discovery.dns.{role}") for role, name in names.items()}
        self._resolver = _resolver(server)
        self._known: dict[RoleName, frozenset[tuple[RoleName, str]]] = {}

    async def look(self) -> Candidates | None:
        """Return every candidate; a name without an answer keeps the addresses of its last one."""
        roles = list(self._names)
        answers = await asyncio.gather(*(self._addresses(*self._names[role]) for role in roles))
        for role, addresses in zip(roles, answers, strict=True):
            if addresses:
                self._known[role] = frozenset((role, address) for address in addresses)
        return frozenset().union(*self._known.values()) if self._known else None

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Return `address:port` for each record of `host`; empty where the lookup fails."""
        found = await asyncio.gather(self._records(host, "A"), self._records(host, "AAAA"))
        return [f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address in found[0] + found[1]]

    async def _records(self, host: str, kind: str) -> list[str]:
        try:
            answer = await self._resolver.resolve(host, kind, lifetime=_PATIENCE_SECONDS, search=True)
        except dns.resolver.NoAnswer:
            return []  # the usual answer for the other address family
        except (dns.exception.DNSException, OSError) as error:
            log.debug("no DNS answer, peers stay as they are host=%s kind=%s error=%s", host, kind, error)
            return []
        return [record.to_text() for record in answer]


def split_port(text: str, where: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`.

    Raises:
        StartupError: there is no port.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise StartupError(f"{where}: {text!r} is not host:port; write for example shards.default.svc:9000")
    return host.strip("[]"), int(port)


def _resolver(server: str | None) -> dns.asyncresolver.Resolver:
    if server is None:
        try:
            return dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration as error:
            raise StartupError(f"discovery.dns: {error}; set discovery.dns_server to host:port") from error
    host, port = split_port(server, "discovery.dns_server")
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], port
    return resolver
