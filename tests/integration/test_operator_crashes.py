"""Killed after each single write of a creation, before and during a deletion, the operator ends with the same objects.

Every life is a process on a real API server, with the deployment in a namespace of its own; a failpoint ends it after a
write. No pod ever runs, for that API server has no nodes: the tests do what a kubelet does for checks of models.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glm5_operator import objects
from glm5_operator.failpoint import EXIT_CODE
from glm5_operator.kinds import GLM5_DEPLOYMENT
from glm5_operator.names import DEPLOYMENT_LABEL, ROLE_LABEL
from support_apiserver import ApiServer
from support_lifeless import ADDRESSES, COUNTERS, DIGEST, metadata_of, without
from support_operator_process import (
    KINDS,
    PATIENCE_SECONDS,
    WRITES,
    OperatorProcess,
    apply_deployment,
    children,
    pass_check,
    pass_checks,
    passes_write_nothing,
    wait_for,
)

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(900)]
WHOLE = "killed-after-000"
AT_ONCE = 3
LOOK_SECONDS = 0.5


@pytest.fixture(scope="module")
def server(glm5_api: ApiServer) -> ApiServer:
    """The API server with the namespace of the operators' leases."""
    glm5_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "glm5-system"}})
    return glm5_api


def test_killed_after_each_write_of_a_creation_it_ends_with_the_same_objects(server: ApiServer, tmp_path: Path) -> None:
    with checks_pass(server):
        writes = create_whole(server, tmp_path)
        assert writes > 20
        namespaces = [f"killed-after-{write:03d}" for write in range(1, writes + 1)]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            lives = [pool.submit(live_shortly, server, tmp_path, *one) for one in enumerate(namespaces, start=1)]
        assert [life.result() for life in lives] == [EXIT_CODE] * writes

        with OperatorProcess(server, tmp_path / "last", watch_namespaces=",".join(namespaces)):
            wait_for(lambda: not unlike_whole(server, namespaces), "the last life makes all of them whole")
    server.kubectl("delete", "namespace", WHOLE, *namespaces, "--wait=false")


@pytest.mark.parametrize("moment", ["before", "during"])
def test_killed_around_a_deletion_it_leaves_nothing(server: ApiServer, tmp_path: Path, moment: str) -> None:
    namespace = f"killed-{moment}-deletion"
    apply_deployment(server, namespace)
    with OperatorProcess(server, tmp_path / "first", watch_namespaces=namespace) as first:
        pass_check(server, namespace)
        wait_for(lambda: ("Deployment", "demo-gateway") in children(server, namespace), "all children exist")
        if moment == "before":
            first.kill()
        server.kubectl("delete", "glm5", "demo", "-n", namespace, "--wait=false", "--cascade=foreground")
        first.kill()

    with OperatorProcess(server, tmp_path / "second", watch_namespaces=namespace) as second:
        wait_for(second.leads, "the second life leads")
        wait_for(lambda: not children(server, namespace), "nothing is left")
        assert second.metric(WRITES) == 0
    assert server.kubectl("get", "glm5", "-n", namespace, "-o", "name") == ""


def create_whole(api: ApiServer, folder: Path) -> int:
    """Create a deployment in one life; return after how many writes there was nothing left to write."""
    apply_deployment(api, WHOLE)
    with OperatorProcess(api, folder / "whole", watch_namespaces=WHOLE) as operator:
        wait_for(lambda: ("Deployment", "demo-gateway") in children(api, WHOLE), "all children exist")
        wait_for(lambda: passes_write_nothing(operator, api, WHOLE), "it has nothing to write any more")
        return int(operator.metric(WRITES))


def live_shortly(api: ApiServer, folder: Path, write: int, namespace: str) -> int:
    """Create a deployment in a life that ends after a write; return the exit code."""
    apply_deployment(api, namespace)
    settings = {"watch_namespaces": namespace, "failpoint_write": write}
    with OperatorProcess(api, folder / namespace, **settings) as operator:
        return operator.process.wait(PATIENCE_SECONDS)


@contextmanager
def checks_pass(api: ApiServer) -> Iterator[None]:
    """Let the pods of all checks of models succeed, as a kubelet would."""
    over = threading.Event()

    def pass_them() -> None:
        while not over.wait(LOOK_SECONDS):
            pass_checks(api)

    with ThreadPoolExecutor(1) as pool:
        passing = pool.submit(pass_them)
        try:
            yield
        finally:
            over.set()
    passing.result()


def unlike_whole(api: ApiServer, namespaces: list[str]) -> list[str]:
    """Return the namespaces whose objects are others than those of the deployment that was created in one life."""
    found = bodies(api)
    return [namespace for namespace in namespaces if found.get(namespace) != found[WHOLE]]


def bodies(api: ApiServer) -> dict[str, str]:
    """Return the children of each namespace's deployment as text without what differs from life to life."""
    found = defaultdict(list)
    for one in json.loads(api.kubectl("get", KINDS, "-A", "-l", f"{DEPLOYMENT_LABEL}=demo", "-o", "json"))["items"]:
        if owner(one)["kind"] == GLM5_DEPLOYMENT.kind:
            found[one["metadata"]["namespace"]].append(one)
    return {namespace: lifeless(some, namespace) for namespace, some in found.items()}


def owner(one: dict[str, Any]) -> dict[str, Any]:
    """Return the only owner of an object; a StatefulSet has ControllerRevisions of its own."""
    return dict(one["metadata"]["ownerReferences"][0])


def lifeless(found: list[dict[str, Any]], namespace: str) -> str:
    """Return objects as text, without what differs from life to life: identities, times, addresses, status."""
    kept = [{**one, "metadata": metadata_of(one), "status": {}} for one in found]
    text = json.dumps([without(one, ADDRESSES + COUNTERS + DIGEST) for one in kept], sort_keys=True, indent=1)
    for one in found:
        text = text.replace(owner(one)["uid"], "UID")
        if one["kind"] == "ConfigMap":  # named by a hash of its content, in which the owner's uid is
            text = text.replace(objects.name(one), f"settings-of-{objects.label(one, ROLE_LABEL)}")
    return "\n".join(sorted(text.replace(namespace, "NAMESPACE").splitlines()))
