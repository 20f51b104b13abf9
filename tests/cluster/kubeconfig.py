"""Kubeconfig files for one server and one bearer token."""

from __future__ import annotations

import base64
import json
from pathlib import Path


def write(path: Path, server: str, ca_file: Path, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig that needs no other file, readable by its owner alone, and return `path`."""
    authority = base64.b64encode(ca_file.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))  # JSON is YAML
    return path
