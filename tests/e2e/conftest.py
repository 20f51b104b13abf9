"""The kind cluster with the product's images on it, the operator, and a namespace for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from cluster import demo, images, kind_cluster


@pytest.fixture(scope="session")
def cluster() -> None:
    """Hold the cluster of this machine; `make test-e2e` has built what takes long.

    While tests are written, GLM5_IMAGES=kept takes the images that are on the nodes, whatever became of the sources.
    """
    kind_cluster.up()
    if os.environ.get("GLM5_IMAGES") != "kept":
        images.build()
        images.load()


@pytest.fixture(scope="session")
def operator(cluster: None) -> None:
    """The operator as its chart installs it, of the image built here."""
    demo.install_operator()


@pytest.fixture
def namespace(cluster: None) -> Iterator[str]:
    """A fresh namespace that enforces the `restricted` Pod Security level; removed after the test."""
    with fresh_namespace() as name:
        yield name


@pytest.fixture(scope="module")
def module_namespace(operator: None) -> Iterator[str]:
    """The same for all tests of a file."""
    with fresh_namespace() as name:
        yield name


@contextmanager
def fresh_namespace() -> Iterator[str]:
    name = f"test-{uuid4().hex[:8]}"
    kind_cluster.kubectl("create", "namespace", name)
    kind_cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    try:
        yield name
    finally:
        kind_cluster.kubectl("delete", "namespace", name, "--wait=false")
        kind_cluster.kubectl("delete", "pv", f"models-{name}", "--ignore-not-found", "--wait=false")
