"""API keys from a file, one a line; read again when the file changes."""

import hashlib
import hmac
import logging
import time
from pathlib import Path

from glm5_wire.errors import StartupError, Unauthenticated

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Keys:
    """The keys that may enter; kept as hashes.

    Args:
        path: the file; blank lines and lines with `#` at their start are skipped. None lets everybody in.

    Raises:
        StartupError: the file cannot be read, or holds no key.
    """

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path is not None else None
        self._hashes: list[bytes] = []
        self._stamp: tuple[int, int] | None = None
        self._looked = 0.0
        if self._path is not None:
            try:
                self._read(self._path)
            except OSError as error:
                raise StartupError(f"cannot read api_key_file {path}: {error.strerror}; check the path") from error
            if not self._hashes:
                raise StartupError(f"api_key_file {path} holds no key; write one key a line")

    @property
    def wanted(self) -> bool:
        """Return whether a key is asked for."""
        return self._path is not None

    def owner(self, authorization: str, otherwise: str) -> str:
        """Return who asks, as a name without secrets.

        Args:
            authorization: value of the header, `Bearer KEY`.
            otherwise: the name where no keys are asked for.

        Raises:
            Unauthenticated: the key is missing or unknown.
        """
        if self._path is None:
            return otherwise
        self._refresh(self._path)
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        # Every hash is compared, so that the time tells nothing.
        known = [hmac.compare_digest(digest, one) for one in self._hashes]
        if scheme.lower() != "bearer" or not any(known):
            why = "the key is not known" if authorization else "there is no Authorization header"
            raise Unauthenticated("no valid API key", "", why, "send `Authorization: Bearer KEY`")
        return f"key-{digest.hex()[:12]}"

    def _refresh(self, path: Path) -> None:
        """Read the file again where it has changed; a broken one changes nothing."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        try:
            self._read(path)
        except OSError as error:
            log.warning("cannot read api_key_file path=%s reason=%s; the known keys stay", path, error.strerror)
            self._looked = now

    def _read(self, path: Path) -> None:
        """Take over the keys in the file."""
        self._looked = time.monotonic()
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp == self._stamp:
            return
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        hashes = [hashlib.sha256(line.encode()).digest() for line in lines if line and not line.startswith("#")]
        self._hashes, self._stamp = hashes or self._hashes, stamp
