"""Ids of answers."""

import uuid


def new_id(prefix: str) -> str:
    """Return a new id; unique, so that it may name the request on the workers too."""
    return f"{prefix}-{uuid.uuid4().hex}"
