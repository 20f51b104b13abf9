"""The kind cluster with the product's images on it, and a namespace for each test."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster import images, kind_cluster


@pytest.fixture(scope="session")
def cluster() -> None:
    """Hold the cluster of this machine; `make test-e2e` has built what takes long."""
    kind_cluster.up()
    images.build()
    images.load()


@pytest.fixture
def namespace(cluster: None) -> Iterator[str]:
    """A fresh namespace that enforces the `restricted` Pod Security level; removed after the test."""
    name = f"test-{uuid4().hex[:8]}"
    kind_cluster.kubectl("create", "namespace", name)
    kind_cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    kind_cluster.kubectl("delete", "namespace", name, "--wait=false")
