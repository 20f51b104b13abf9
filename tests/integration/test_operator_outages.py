"""When replicas of the operator die, when it is away, and when the API server is."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_apiserver import ApiServer
from support_operator_process import OperatorProcess, apply_deployment, children, install_crds, pass_check, wait_for

pytestmark = pytest.mark.apiserver
SHORT_SECONDS = 5.0
LONG_SECONDS = 60.0


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """An API server of our own, which we may stop."""
    with ApiServer() as server:
        install_crds(server)
        server.kubectl("create", "namespace", "glm5-system")
        yield server


def test_when_the_leader_is_killed_the_other_replica_acts(api: ApiServer, tmp_path: Path) -> None:
    apply_deployment(api, "ha")
    lease = {"lease_name": "ha", "lease_seconds": 10, "renew_seconds": 7}
    with OperatorProcess(api, tmp_path / "a", pod_uid="a", **lease) as first:
        wait_for(lambda: ("GLM5ExpertPlacement", "demo") in children(api, "ha"), "the first replica acts")
        with OperatorProcess(api, tmp_path / "b", pod_uid="b", **lease) as second:
            first.kill()
            api.kubectl("delete", "service", "demo-decode", "-n", "ha")

            wait_for(lambda: ("Service", "demo-decode") in children(api, "ha"), "the second replica acts")

            wait_for(second.leads, "the second replica leads")
            assert _holder(api, "ha").startswith("b-")


def test_a_leader_that_is_asked_to_end_gives_the_lease_back(api: ApiServer, tmp_path: Path) -> None:
    with OperatorProcess(api, tmp_path / "log", pod_uid="a", lease_name="given-back") as operator:
        wait_for(operator.leads, "it leads")
        assert _holder(api, "given-back").startswith("a-")

        assert operator.terminate() == 0

    assert _holder(api, "given-back") == ""


def test_a_deployment_that_is_deleted_while_the_operator_is_away_leaves_nothing(api: ApiServer, tmp_path: Path) -> None:
    apply_deployment(api, "away")
    with OperatorProcess(api, tmp_path / "log"):
        pass_check(api, "away")
        wait_for(lambda: ("Deployment", "demo-gateway") in children(api, "away"), "all children exist")

    api.kubectl("delete", "glm5", "demo", "-n", "away")

    wait_for(lambda: not children(api, "away"), "nothing is left")


def test_an_outage_of_the_api_server_ends_nothing_and_afterwards_it_acts(api: ApiServer, tmp_path: Path) -> None:
    _outage(api, tmp_path, "outage", SHORT_SECONDS)


@pytest.mark.long
def test_so_does_an_outage_of_a_minute(api: ApiServer, tmp_path: Path) -> None:
    _outage(api, tmp_path, "long-outage", LONG_SECONDS)


def _outage(api: ApiServer, tmp_path: Path, namespace: str, seconds: float) -> None:
    apply_deployment(api, namespace)
    with OperatorProcess(api, tmp_path / "log") as operator:
        pass_check(api, namespace)
        wait_for(lambda: ("Deployment", "demo-decode") in children(api, namespace), "all children exist")
        api.stop_apiserver()
        time.sleep(seconds)  # the length of the outage is what is tested
        api.start_apiserver()

        apply_deployment(api, namespace, decode={"replicas": 3})

        wait_for(lambda: _replicas(api, namespace) == 3, "the change was acted on")
        assert operator.process.poll() is None
        assert operator.terminate() == 0
    api.kubectl("delete", "glm5", "demo", "-n", namespace)


def _holder(api: ApiServer, lease: str) -> str:
    return api.kubectl("get", "lease", lease, "-n", "glm5-system", "-o", "jsonpath={.spec.holderIdentity}")


def _replicas(api: ApiServer, namespace: str) -> int:
    live = json.loads(api.kubectl("get", "deployment", "demo-decode", "-n", namespace, "-o", "json"))
    return int(live["spec"]["replicas"])
