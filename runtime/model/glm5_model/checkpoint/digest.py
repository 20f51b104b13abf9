"""A hash that two processes share exactly where they loaded the same checkpoint."""

import hashlib
import json
from pathlib import Path

from glm5_model.checkpoint.index import INDEX, locate
from glm5_model.errors import CheckpointError


def model_digest(path: str | Path) -> str:
    """Return the SHA-256 of config.json, the index and every file's header, 64 hex digits; weights are not read.

    Raises:
        CheckpointError: one of them cannot be read.
    """
    folder = Path(path)
    digest = hashlib.sha256()
    for file in ("config.json", INDEX):
        digest.update(_content(folder, file))
    for name, info in sorted(locate(folder).items()):
        entry = [name, info.file, info.type_name, info.shape, info.begin, info.end]
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _content(folder: Path, file: str) -> bytes:
    """Return a file's bytes; nothing for the index of a checkpoint of one file."""
    try:
        return (folder / file).read_bytes()
    except FileNotFoundError:
        if file == INDEX:
            return b""
        raise CheckpointError(file, "", "is missing", "name a folder with a checkpoint") from None
    except OSError as error:
        raise CheckpointError(file, "", f"cannot be read: {error.strerror}", "check its permissions") from error
