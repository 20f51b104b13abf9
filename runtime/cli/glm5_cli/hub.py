"""What a hub says about a repository: which files there are, how long they are, and what their checksums are."""

from dataclasses import dataclass
from typing import Any

import httpx

from glm5_cli.errors import CliError

SUFFIXES = (".safetensors", ".json", ".jinja")
"""What a checkpoint needs; pickles and code are never fetched."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository."""

    name: str
    size: int
    checksum: str
    """"sha256:..." of the content, or "git:..." of git's blob."""
    url: str


def client(token: str) -> httpx.Client:
    """Return a client that follows redirects; the token is not sent to other hosts."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    timeout = httpx.Timeout(30.0, read=60.0)
    return httpx.Client(headers=headers, timeout=timeout, follow_redirects=True)


def files(http: httpx.Client, endpoint: str, repo: str, revision: str) -> tuple[str, list[HubFile]]:
    """Return the commit of `revision` and its files that belong to a checkpoint.

    Raises:
        CliError: the hub refuses, has no such repository or revision, or no checkpoint is there.
        httpx.TransportError: the hub cannot be reached.
    """
    base = endpoint.rstrip("/")
    answer = http.get(f"{base}/api/models/{repo}/revision/{revision}", params={"blobs": "true"})
    if answer.status_code in (401, 403):
        raise CliError(f"{base} refuses {repo} ({answer.status_code}); check the token in HF_TOKEN and its rights")
    if answer.status_code == 404:
        raise CliError(f"{base} has no {repo} at revision {revision}; check repo and revision")
    answer.raise_for_status()
    body = answer.json()
    commit = str(body["sha"])
    found = [_file(f"{base}/{repo}/resolve/{commit}", one) for one in body["siblings"] if _wanted(one["rfilename"])]
    if not any(one.name == "config.json" for one in found):
        raise CliError(f"{repo} at {revision} has no config.json at its root; it holds no checkpoint")
    return commit, found


def _wanted(name: str) -> bool:
    """Return whether a file belongs to the checkpoint; only the root is looked at."""
    return "/" not in name and "\\" not in name and not name.startswith(".") and name.endswith(SUFFIXES)


def _file(base: str, entry: dict[str, Any]) -> HubFile:
    large = entry.get("lfs")
    checksum = f"sha256:{large['sha256']}" if large else f"git:{entry['blobId']}"
    size = int((large or entry)["size"])
    return HubFile(str(entry["rfilename"]), size, checksum, f"{base}/{entry['rfilename']}")
