"""One file from a hub to disk: goes on where it stopped, and is in place only when its checksum is right."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx

from glm5_cli.hub import HubFile

_CHUNK = 4 << 20


class Corrupt(Exception):
    """What came is not what the hub promised."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def fetch(http: httpx.Client, file: HubFile, folder: Path, progress: Callable[[int], None]) -> None:
    """Write `file` into `folder`, unless it is there already.

    Args:
        http: a client.
        file: what to fetch.
        folder: exists.
        progress: called with the number of bytes that are there more than before.

    Raises:
        Corrupt: the checksum differs; what came was removed.
        httpx.HTTPError: the hub failed in the middle; what came stays for the next attempt.
    """
    final, part = folder / file.name, folder / f".{file.name}.part"
    if final.exists() and final.stat().st_size == file.size:
        return progress(file.size)
    digest, have = _begin(file, part)
    progress(have)
    if have < file.size:
        _stream(http, file, part, have, digest, progress)
    if digest.hexdigest() != file.checksum.partition(":")[2]:
        part.unlink()
        raise Corrupt(f"{file.name}: the checksum is {digest.hexdigest()}, the hub says {file.checksum}")
    os.replace(part, final)


def _begin(file: HubFile, part: Path) -> tuple[_Hash, int]:
    """Return the hash over what an earlier attempt left, and how much that is."""
    digest = _hash(file)
    if not part.exists() or part.stat().st_size > file.size:
        part.write_bytes(b"")
        return digest, 0
    with part.open("rb") as stream:
        while data := stream.read(_CHUNK):
            digest.update(data)
    return digest, part.stat().st_size


def _hash(file: HubFile) -> _Hash:
    if file.checksum.startswith("sha256:"):
        return hashlib.sha256()
    # git's name of a blob: it guards against damage; the weights themselves have a SHA-256
    return hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)


def _stream(
    http: httpx.Client, file: HubFile, part: Path, have: int, digest: _Hash, progress: Callable[[int], None]
) -> None:
    """Append the rest of the file to `part`."""
    headers = {"range": f"bytes={have}-"} if have else {}
    with http.stream("GET", file.url, headers=headers) as answer, part.open("r+b") as out:
        answer.raise_for_status()
        skip = have if answer.status_code == 200 else 0  # a hub without ranges sends all of it again
        out.seek(have)
        for data in answer.iter_bytes(_CHUNK):
            fresh = data[skip:]
            skip = max(0, skip - len(data))
            out.write(fresh)
            digest.update(fresh)
            progress(len(fresh))
        out.flush()
        os.fsync(out.fileno())
