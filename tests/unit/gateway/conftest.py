"""The text side of a toy, and the whole application without any worker."""

import asyncio

import httpx
import pytest

from glm5.v1 import peer_pb2
from glm5_gateway.api import Api
from glm5_gateway.dispatch.admission import Admission
from glm5_gateway.dispatch.generation import Patience
from glm5_gateway.dispatch.workers import Workers
from glm5_gateway.http.app import Front, build_app
from glm5_gateway.keys import Keys
from glm5_gateway.served import ServedModel
from glm5_spec.settings import GatewaySettings
from glm5_wire.registry import PeerRegistry
from unit.gateway.support import write_text_files

PATIENCE = Patience(max_attempts=8, retry_seconds=30, detection_seconds=3, timeout_seconds=600)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_text_files(tmp_path_factory.mktemp("text") / "toy")


@pytest.fixture(scope="session")
def served(folder):
    return ServedModel.from_dir(folder, ["toy", "also-toy"])


@pytest.fixture(scope="session")
def tokenizer(served):
    return served.tokenizer


@pytest.fixture
def registry(folder):
    """A registry that has nowhere to look."""
    settings = GatewaySettings(role="gateway", name="g", model_path=str(folder), served_names=["toy"])
    return PeerRegistry(settings, peer_pb2.Peer, {peer_pb2.ROLE_DECODE})


@pytest.fixture
def api(served, registry):
    return Api(served, Workers(registry), Admission(8, 8), PATIENCE)


@pytest.fixture
def make_client(api):
    """Return a function that returns a client of the application; no process, no network."""

    def make(key_file=None, max_body_bytes=1 << 20):
        front = Front(Keys(key_file), max_body_bytes, 5.0, asyncio.Event(), lambda: False)
        transport = httpx.ASGITransport(build_app(api, front))
        return httpx.AsyncClient(transport=transport, base_url="http://gateway")

    return make
