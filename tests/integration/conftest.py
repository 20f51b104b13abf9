"""Checkpoints and running stacks, shared by the tests of a session where they do not harm them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from glm5_model.toy import write_toy
from support_apiserver import ApiServer
from support_operator_process import install_crds
from support_stack import Stack, running_stack

DEMO = Path(__file__).parents[2] / "examples" / "demo-model"


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random toy of variant 5.0, fp32."""
    path = tmp_path_factory.mktemp("toy") / "toy"
    write_toy(path, variant="5.0", dtype="float32", seed=0)
    return path


@pytest.fixture(scope="session")
def toy52(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random toy of variant 5.2, fp32."""
    path = tmp_path_factory.mktemp("toy52") / "toy52"
    write_toy(path, variant="5.2", dtype="float32", seed=0)
    return path


@pytest.fixture(scope="session")
def demo_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`glm5 up` on the demo model; tests that use it leave every process alive."""
    with running_stack(tmp_path_factory.mktemp("demo"), DEMO) as stack:
        yield stack


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """A real API server for tests marked `apiserver`; each uses namespaces of its own and leaves it running."""
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="session")
def glm5_api(apiserver: ApiServer) -> ApiServer:
    """The same API server with our CustomResourceDefinitions."""
    install_crds(apiserver)
    return apiserver
