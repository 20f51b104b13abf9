"""Whether an object is as we want it, told without writing and without knowing the API server's defaults.

Two facts suffice. The annotation HASH says which manifest we applied last. `metadata.managedFields` says which of its
fields are still ours: whoever changes or removes a field takes it from us. So an object is as we want it if the hash is
that of the manifest and every field of the manifest is ours. Fields of others are never looked at.
"""

import hashlib
import json
from typing import Any

from glm5_operator.kinds import Manifest

HASH = "serving.glm5.io/applied"
"""Annotation with the hash of the manifest that was applied."""
_IDENTITY = {"apiVersion", "kind"}
_NAMES = {"name", "namespace"}


def stamped(manifest: Manifest) -> Manifest:
    """Return `manifest` with the annotation that holds its hash."""
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), HASH: digest(manifest)}
    return {**manifest, "metadata": metadata}


def digest(value: Any) -> str:
    """Return 16 hex digits of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def differs(live: Manifest, wanted: Manifest, manager: str) -> bool:
    """Return whether `wanted`, a stamped manifest, has to be applied by `manager` to make `live` like it."""
    if (live["metadata"].get("annotations") or {}).get(HASH) != wanted["metadata"]["annotations"][HASH]:
        return True
    fields = _fields_of(live, manager)
    body = {key: value for key, value in wanted.items() if key not in _IDENTITY}
    body["metadata"] = {key: value for key, value in wanted["metadata"].items() if key not in _NAMES}
    return not fields or not _owned(body, fields)


def _fields_of(live: Manifest, manager: str) -> dict[str, Any]:
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return dict(entry.get("fieldsV1") or {})
    return {}


def _owned(value: Any, fields: dict[str, Any]) -> bool:
    """Return whether `fields`, in the notation of fieldsV1, covers all of `value`."""
    if not fields or not value:
        return True  # owned as a whole: a leaf, or an atomic map or list
    if isinstance(value, dict):
        return all(_field_owned(one, fields.get(f"f:{key}")) for key, one in value.items())
    if isinstance(value, list):
        return all(_item_owned(one, fields) for one in value)
    return True


def _field_owned(value: Any, below: dict[str, Any] | None) -> bool:
    """Return whether a field is ours; an empty list or map leaves no trace in fieldsV1."""
    return value in ([], {}) if below is None else _owned(value, below)


def _item_owned(item: Any, fields: dict[str, Any]) -> bool:
    """Return whether an entry of a list is ours: `k:` names it by its keys, `v:` by its value."""
    for key, below in fields.items():
        if key.startswith("v:") and json.loads(key[2:]) == item:
            return True
        if key.startswith("k:") and isinstance(item, dict) and _matches(item, json.loads(key[2:])):
            return _owned(item, below)
    return False


def _matches(item: dict[str, Any], keys: dict[str, Any]) -> bool:
    """Return whether `item` is the entry with `keys`; a key that the item lacks was filled in by a default."""
    shared = [key for key in keys if key in item]
    return bool(shared) and all(item[key] == keys[key] for key in shared)
