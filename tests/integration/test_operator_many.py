"""A hundred deployments at once: the operator gets done with them, stays small, and then leaves them alone."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support_apiserver import ApiServer
from support_operator import manifest
from support_operator_process import OperatorProcess, install_crds, pass_checks, wait_for

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(1200)]
MANY = 100
NAMESPACE = "many"
CONVERGED_SECONDS = 300
STILL_SECONDS = 60
MEGABYTE = 1024
WRITES = r'^apiserver_request_total{.*,resource="(?!leases")[^"]*".*verb="(?:APPLY|PATCH|POST|PUT|DELETE)".*} (\S+)$'


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """An API server of our own: what is written there is written by us."""
    with ApiServer() as server:
        install_crds(server)
        server.kubectl("create", "namespace", "glm5-system")
        server.kubectl("create", "namespace", NAMESPACE)
        yield server


def test_a_hundred_deployments_are_created_and_then_left_alone(api: ApiServer, tmp_path: Path) -> None:
    with OperatorProcess(api, tmp_path / "log", lease_seconds=10, renew_seconds=7) as operator:
        wait_for(operator.leads, "the operator leads")
        begun = time.monotonic()
        api.apply(*map(nothing, range(MANY)))
        while number_of_ready(api) < MANY:
            assert time.monotonic() - begun < 2 * CONVERGED_SECONDS, f"{number_of_ready(api)} are Ready"
            pass_checks(api)
        seconds = time.monotonic() - begun

        wait_for(lambda: writes_of(api, STILL_SECONDS) == 0, "nothing is written for a minute")
        grown = resident(operator) / MEGABYTE
    print(f"{MANY} deployments Ready in {seconds:.0f} s, {grown:.0f} MB")
    assert seconds < CONVERGED_SECONDS
    assert grown < 200


def nothing(number: int) -> dict[str, Any]:
    """Return a deployment whose roles have no replicas."""
    zero = {"replicas": 0}
    experts = {"replicas": 0, "shards": 2}
    wanted = manifest(f"demo-{number}", NAMESPACE, gateway=zero, prefill=zero, decode=zero, experts=experts)
    return wanted | {"metadata": {"name": f"demo-{number}", "namespace": NAMESPACE}}


def number_of_ready(api: ApiServer) -> int:
    found = json.loads(api.kubectl("get", "glm5", "-n", NAMESPACE, "-o", "json"))["items"]
    return sum(is_ready(one) for one in found)


def is_ready(live: dict[str, Any]) -> bool:
    generation = live["metadata"]["generation"]
    return any(
        one["type"] == "Ready" and one["status"] == "True" and one["observedGeneration"] == generation
        for one in live.get("status", {}).get("conditions", [])
    )


def writes_of(api: ApiServer, seconds: float) -> float:
    """Return how many requests that write anything but leases the API server gets within some seconds."""
    before = _writes(api)
    time.sleep(seconds)
    return _writes(api) - before


def _writes(api: ApiServer) -> float:
    return sum(map(float, re.findall(WRITES, api.kubectl("get", "--raw", "/metrics"), re.MULTILINE)))


def resident(operator: OperatorProcess) -> float:
    """Return the resident set of the operator in kilobytes."""
    return float(Path(f"/proc/{operator.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])
