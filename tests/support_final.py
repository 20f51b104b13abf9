"""What is left of the operator's objects when everything that differs from life to life is taken away."""

from __future__ import annotations

import time
from typing import Any

from glm5_operator import objects
from glm5_operator.kinds import CONTROLLER_REVISION, WRITTEN, Manifest
from glm5_operator.names import REVISION_LABEL
from support_kind import LABEL, PATIENCE_SECONDS, Served, get
from support_lifeless import ADDRESSES, COUNTERS, DIGEST, metadata_of, without

STILL_SECONDS = 3.0
FOREIGN = ("deployment.kubernetes.io/",)
"""Annotations of controllers, which count rolls."""


def settled(served: Served) -> dict[str, Any]:
    """Return the children of a deployment by "Kind name", lifeless, once they do not change any more.

    Stored templates that nothing uses are left out: they are the history, not what is there.
    """
    before, found = {"": None}, _children(served)
    until = time.monotonic() + PATIENCE_SECONDS
    while found != before:
        assert time.monotonic() < until, "the operator never stops to write"
        time.sleep(STILL_SECONDS)
        before, found = found, _children(served)
    return found


def _children(served: Served) -> dict[str, Any]:
    owner = served.live()["metadata"]["uid"]
    used = {objects.label(pod, REVISION_LABEL) for pod in served.pods()}
    found = {}
    for kind in WRITTEN:
        for one in get(kind.path(served.namespace), labelSelector=f"{LABEL}={served.name}")["items"]:
            history = kind is CONTROLLER_REVISION and objects.label(one, REVISION_LABEL) not in used
            if objects.controller_uid(one) == owner and not history:
                found[f"{kind.kind} {objects.name(one)}"] = lifeless(one)
    return found


def lifeless(one: Manifest) -> Any:
    """Return an object without identities, times, addresses and status."""
    metadata = metadata_of(one)
    annotations = metadata.get("annotations") or {}
    metadata["annotations"] = {key: value for key, value in annotations.items() if not key.startswith(FOREIGN)}
    return without({**one, "metadata": metadata, "status": {}}, ADDRESSES + COUNTERS + DIGEST)
