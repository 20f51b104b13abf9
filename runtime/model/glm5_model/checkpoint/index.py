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
        raise CheckpointError(
            str(folder), "", f"has neither {INDEX} nor {SINGLE}", "name a folder with a safetensors checkpoint"
        )
    try:
        mapping = json.loads(path.read_bytes())["weight_map"]
    except OSError as error:
        raise CheckpointError(INDEX, "", f"cannot be read: {error.strerror}", "check its permissions") from error
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(INDEX, "", "is not JSON with a weight_map", _CURE) from None
    if not isinstance(mapping, dict) or not all(isinstance(file, str) for file in mapping.values()):
        raise CheckpointError(INDEX, "", "weight_map does not map names to files", _CURE)
    for name, file in mapping.items():
        if Path(file).name != file:
            raise CheckpointError(INDEX, name, f"names the file {file!r} outside the checkpoint's folder", _CURE)
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
            raise CheckpointError(file, name, f"is promised by {INDEX}, but not in the file", _CURE)
    return {name: headers[file][name] for name, file in mapping.items()}
