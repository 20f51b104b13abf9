"""Fixtures that several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support_apiserver import ApiServer


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """A real API server for tests marked `apiserver`; each uses namespaces of its own and leaves it running."""
    with ApiServer() as server:
        yield server
