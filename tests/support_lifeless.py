"""Objects without what differs from life to life."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from glm5_operator import diff

OF_A_LIFE = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
ADDRESSES = ("clusterIP", "clusterIPs", "controller-uid", "batch.kubernetes.io/controller-uid")
COUNTERS = ("epoch",)
"""Fields that count changes, of which a longer way has more."""
DIGEST = (diff.HASH,)
"""The operator's digest of what it wrote, which covers the uid of the owner and what it counts."""


def metadata_of(one: dict[str, Any]) -> dict[str, Any]:
    """Return an object's metadata without identities and times."""
    return {key: value for key, value in one["metadata"].items() if key not in OF_A_LIFE}


def without(value: Any, dropped: Collection[str]) -> Any:
    """Return a body without some keys, however deep."""
    if isinstance(value, dict):
        return {key: without(one, dropped) for key, one in value.items() if key not in dropped}
    return [without(one, dropped) for one in value] if isinstance(value, list) else value
