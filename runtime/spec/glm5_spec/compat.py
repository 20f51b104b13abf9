"""Who may talk to whom."""

import hashlib

WIRE_VERSION = 1
PAGE_LAYOUT = "latent-v1"


def compat(model_digest: str, weight_version: int, dtype: str, numerics: str) -> str:
    """Return 16 hex digits that are equal exactly where two processes may exchange caches and expert rows.

    Args:
        model_digest: hash of config and checkpoint index.
        weight_version: version of the weights, from 1.
        dtype: "float32" or "bfloat16", as resolved.
        numerics: "invariant" or "fast".
    """
    parts = (model_digest, str(weight_version), str(WIRE_VERSION), PAGE_LAYOUT, dtype, numerics)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
