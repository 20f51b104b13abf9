"""Killed after each single write of a creation, the operator ends with the same objects.

The passes run in this process against the real API server; the kill is an exception that nothing catches, and the next
life begins with nothing but what the API server has.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from glm5_operator import objects
from glm5_operator.api import Api, connect
from glm5_operator.executor import Executor
from glm5_operator.failpoint import EXIT_CODE, Failpoint
from glm5_operator.kinds import GLM5_DEPLOYMENT, JOB, POD, WRITTEN
from glm5_operator.manifests import Environment
from glm5_operator.names import DEPLOYMENT_LABEL, JOB_LABEL, ROLE_LABEL
from glm5_operator.poll import Poller
from glm5_operator.queue import Key, Retry
from glm5_operator.reconcile import Reconciler
from support_apiserver import ApiServer
from support_lifeless import ADDRESSES, DIGEST, metadata_of, without
from support_operator import manifest
from support_operator_process import PATIENCE_SECONDS, OperatorProcess, apply_deployment, children, wait_for

pytestmark = pytest.mark.apiserver


class Killed(BaseException):
    """The end of a life."""


async def test_killed_after_some_writes_of_a_creation_it_ends_with_the_same_objects(glm5_api: ApiServer) -> None:
    await _kill_after(glm5_api, "some", lambda writes: range(1, writes + 1, 4))


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_killed_after_each_write_of_a_creation_it_ends_with_the_same_objects(glm5_api: ApiServer) -> None:
    await _kill_after(glm5_api, "each", lambda writes: range(1, writes + 1))


def test_a_killed_process_is_followed_by_one_that_finishes(glm5_api: ApiServer, tmp_path: Path) -> None:
    glm5_api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "killed"}})
    settings = {"namespace": "killed", "watch_namespaces": "killed"}
    apply_deployment(glm5_api, "killed")
    with OperatorProcess(glm5_api, tmp_path / "first", failpoint_write=7, **settings) as first:
        assert first.process.wait(PATIENCE_SECONDS) == EXIT_CODE
    assert len(children(glm5_api, "killed")) == 7

    with OperatorProcess(glm5_api, tmp_path / "second", **settings):
        wait_for(lambda: ("GLM5ExpertPlacement", "demo") in children(glm5_api, "killed"), "the creation was finished")

    assert len(children(glm5_api, "killed")) == 17
    glm5_api.kubectl("delete", "glm5", "demo", "-n", "killed")


async def _kill_after(server: ApiServer, namespace: str, which: Callable[[int], Iterable[int]]) -> None:
    """Create deployments, one in a single life, the others killed after a write, and compare what is there."""
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    api = await connect(str(server.kubeconfig))
    try:
        writes, whole = await _create(api, namespace, kill_after=0)
        assert writes > 20
        for write in which(writes):
            _, found = await _create(api, namespace, kill_after=write)
            assert found == whole, f"killed after write {write}"
    finally:
        await api.close()


async def _create(api: Api, namespace: str, kill_after: int) -> tuple[int, str]:
    """Create a deployment; return the writes of the first life, and the objects as text without identities."""
    name = f"demo-{kill_after:03d}"
    wanted = manifest(name, namespace)
    wanted["metadata"] = {"name": name, "namespace": namespace}
    live = await api.apply(wanted, "test")
    failpoint = Failpoint(kill_after, _kill)
    try:
        await _live(api, namespace, name, failpoint)
    except Killed:
        await _live(api, namespace, name, Failpoint())
    found = [one for kind in WRITTEN for one in await api.list(kind, namespace, f"{DEPLOYMENT_LABEL}={name}")]
    mine = [one for one in found if objects.controller_uid(one) == live["metadata"]["uid"]]
    await api.delete(GLM5_DEPLOYMENT, namespace, name, live["metadata"]["uid"])
    return failpoint.writes, _lifeless(mine, name, live["metadata"]["uid"])


async def _live(api: Api, namespace: str, name: str, failpoint: Failpoint) -> None:
    """Do passes until one has nothing to write, with the model checked in between."""
    poller = Poller(lambda key: None, poll_seconds=1.0)
    executor = Executor(api, lambda: None, failpoint)
    reconciler = Reconciler(api, executor, poller, lambda: None, Environment(), resync_seconds=60.0)
    await _idle(reconciler, failpoint, (namespace, name))
    until = time.monotonic() + PATIENCE_SECONDS
    while not await _check_is_over(api, namespace, name):
        assert time.monotonic() < until, "the Job controller did not see the end of the Job's pod"
        await asyncio.sleep(0.1)
    await _idle(reconciler, failpoint, (namespace, name))


async def _idle(reconciler: Reconciler, failpoint: Failpoint, key: Key) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        before = failpoint.writes
        try:
            await reconciler(key)
        except Retry:  # the API server is still making room for the new kinds
            await asyncio.sleep(0.5)
            continue
        if failpoint.writes == before:
            return
    raise AssertionError("passes never stopped writing")


async def _check_is_over(api: Api, namespace: str, name: str) -> bool:
    """Let the pods of the check Job succeed, as a kubelet would; return whether the Job is over."""
    selector = f"{DEPLOYMENT_LABEL}={name},{JOB_LABEL}=check"
    for pod in await api.list(POD, namespace, selector):
        if pod["status"].get("phase") == "Pending":
            metadata = {"name": objects.name(pod), "namespace": namespace}
            status = {**pod["status"], "phase": "Succeeded"}
            await api.apply(
                {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}, "test", "status"
            )
    jobs = await api.list(JOB, namespace, selector)
    return any(objects.is_true(job, "Complete") for job in jobs)


def _kill() -> None:
    raise Killed


def _lifeless(found: list[dict[str, Any]], deployment: str, uid: str) -> str:
    """Return objects as text, without what differs from life to life: identities, times, addresses, status."""
    bodies = []
    for one in found:
        bodies.append(without({**one, "metadata": metadata_of(one), "status": {}}, ADDRESSES + DIGEST))
    text = json.dumps(bodies, sort_keys=True, indent=1).replace(uid, "UID")
    for one in found:
        if one["kind"] == "ConfigMap":  # named by a hash of its content, in which the uid is
            text = text.replace(objects.name(one), f"settings-of-{objects.label(one, ROLE_LABEL)}")
    text = text.replace(deployment, "NAME")
    return "\n".join(sorted(text.splitlines()))
