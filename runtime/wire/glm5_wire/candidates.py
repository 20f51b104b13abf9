"""Where candidates for peers come from: a watched file or DNS. They are only hints; the peers themselves are asked."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Protocol

from glm5_spec.settings import Discovery, RoleName
from glm5_wire.errors import StartupError

log = logging.getLogger(__name__)

Candidates = frozenset[tuple[RoleName, str]]
"""Pairs of role and address."""

_ROLES: tuple[RoleName, ...] = ("gateway", "prefill", "decode", "experts")


class Source(Protocol):
    """A source of candidates."""

    async def look(self) -> Candidates | None:
        """Return the candidates of now; None where nothing new is known, and then what was known stays."""


class FileSource:
    """A JSON file `{"peers": [{"role": ..., "address": ...}]}`; `glm5 up` replaces it when processes come and go."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._stamp: tuple[int, int, int] | None = None

    async def look(self) -> Candidates | None:
        """Return the pairs in the file where it has changed; a missing or broken file changes nothing."""
        try:
            facts = self._path.stat()
            stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if stamp == self._stamp:
                return None
            found = _parse(self._path.read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("discovery file unreadable, peers stay as they are path=%s error=%r", self._path, error)
            return None
        self._stamp = stamp
        return found


def _parse(text: str) -> Candidates:
    """Return the pairs in the text of a discovery file.

    Raises:
        ValueError: not JSON, or an unknown role.
        KeyError: a key is missing.
        TypeError: the shape is wrong.
    """
    pairs = [(entry["role"], str(entry["address"])) for entry in json.loads(text)["peers"]]
    unknown = {role for role, _ in pairs} - set(_ROLES)
    if unknown:
        raise ValueError(f"unknown roles {sorted(unknown)}; known are {list(_ROLES)}")
    return frozenset(pairs)


class NoSource:
    """No discovery configured: peers come by Announce alone."""

    async def look(self) -> Candidates | None:
        """Return None for ever."""
        await asyncio.sleep(0)
        return None


def source_for(discovery: Discovery) -> Source:
    """Return the source that the settings name.

    Raises:
        StartupError: both `file` and `dns` are set.
    """
    if discovery.file and discovery.dns:
        raise StartupError("discovery: both `file` and `dns` are set; set exactly one of them")
    if discovery.file:
        return FileSource(discovery.file)
    if discovery.dns:
        from glm5_wire.dns import DnsSource

        return DnsSource(discovery.dns, discovery.dns_server)
    return NoSource()
