"""Which file of a checkpoint holds which tensor."""

import json
from pathlib import Path

from glm5_model.checkpoint.header import TensorInfo, read_header
from glm5_model.errors import CheckpointError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_CURE = "download the checkpoint again"


def weight_map(folder: Path) -> dict[str, str] | None:
    """Return tensor name to file name from the index, or None where the checkpoint is one file.

    Raises:
        CheckpointError: there is neither an index nor the single file, or the index is damaged.
    """
    path = folder / INDEX
    if not path.exists():
        if (folder / SINGLE).exists():
            return None
        cure = "name a folder with a safetensors checkpoint"
        raise CheckpointError(str(folder), "", f"has neither {INDEX} nor {SINGLE}", cure, "no_weights")
    try:
        mapping = json.loads(path.read_bytes())["weight_map"]
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise CheckpointError(INDEX, "", message, "check its permissions", "file_unreadable") from error
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(INDEX, "", "is not JSON with a weight_map", _CURE, "index_damaged") from None
    if not isinstance(mapping, dict) or not all(isinstance(file, str) for file in mapping.values()):
        raise CheckpointError(INDEX, "", "weight_map does not map names to files", _CURE, "index_damaged")
    for name, file in mapping.items():
        if not file or Path(file).name != file:
            message = f"names the file {file!r} outside the checkpoint's folder"
            raise CheckpointError(INDEX, name, message, _CURE, "index_outside")
    return mapping


def locate(folder: Path) -> dict[str, TensorInfo]:
    """Return every tensor of the checkpoint and where it lies.

    Raises:
        CheckpointError: the index or a file's header is damaged, or a file lacks a tensor that the index promises.
    """
    mapping = weight_map(folder)
    if mapping is None:
        return read_header(folder, SINGLE)
    headers = {file: read_header(folder, file) for file in sorted(set(mapping.values()))}
    for name, file in mapping.items():
        if name not in headers[file]:
            raise not_in_file(name, file)
    return {name: headers[file][name] for name, file in mapping.items()}


def not_in_file(name: str, file: str) -> CheckpointError:
    """Return the error of a tensor that the index promises and its file lacks."""
    return CheckpointError(file, name, f"is promised by {INDEX}, but not in the file", _CURE, "index_wrong_file")
