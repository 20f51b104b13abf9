"""The gate before every roll: the model's files are there, and `glm5 check` found no fault in them."""

import json
from typing import Any

from glm5_operator import manifests, objects
from glm5_operator.draft import Draft
from glm5_operator.kinds import JOB, POD, Manifest
from glm5_operator.reasons import Reason
from glm5_operator.revision import check_key, download_key
from glm5_operator.trouble import pod_trouble, refusal
from glm5_operator.world import World

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"


def plan_model(draft: Draft) -> bool:
    """Ask for the Jobs of the model; return whether the model that the spec names may be rolled out."""
    passed = True
    for job, running, failed in _jobs(draft):
        if passed:
            draft.want_once(job)
            passed = _passed(draft, job, running, failed)
        else:
            draft.keep(JOB, objects.name(job))
    _drop_old(draft)
    return passed


def result(pod: Manifest) -> dict[str, Any]:
    """Return the JSON that the Job's container left as its termination message; empty if there is none."""
    for one in objects.containers(pod):
        message = (one.get("state") or {}).get("terminated", {}).get("message", "")
        try:
            value = json.loads(message)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}


def pods_of(world: World, job: str) -> list[Manifest]:
    """Return the pods of a Job, oldest first."""
    pods = [pod for pod in world.all(POD).values() if objects.label(pod, JOB_NAME_LABEL) == job]
    return sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))


def _jobs(draft: Draft) -> list[tuple[Manifest, Reason, Reason]]:
    deployment = draft.deployment
    jobs = [(manifests.check_job(deployment, check_key(deployment)), Reason.CHECKING, Reason.CHECK_FAILED)]
    download = manifests.download_job(deployment, download_key(deployment))
    return jobs if download is None else [(download, Reason.DOWNLOADING, Reason.DOWNLOAD_FAILED), *jobs]


def _passed(draft: Draft, job: Manifest, running: Reason, failed: Reason) -> bool:
    name = objects.name(job)
    live = draft.world.get(JOB, name)
    if live is not None and objects.is_true(live, "Complete"):
        return True
    if live is not None and objects.is_true(live, "Failed"):
        draft.wait(failed, _fault(draft.world, live), model=True)
        return False
    draft.wait(*(_trouble(draft.world, name) or (running, f"Job {name} is running")), model=True)
    return False


def _trouble(world: World, job: str) -> tuple[Reason, str] | None:
    for pod in pods_of(world, job):
        if found := pod_trouble(pod):
            return found
    return refusal(world, job)


def _fault(world: World, job: Manifest) -> str:
    """Return what the Job found, in its own words."""
    for pod in reversed(pods_of(world, objects.name(job))):
        if said := faults(result(pod)) or _last_words(pod):
            return said
    return str(objects.condition(job, "Failed").get("message", "the Job failed without a word"))


def faults(found: dict[str, Any]) -> str:
    """Return the faults in the result of a check, one sentence each, at most five."""
    if error := found.get("error"):
        return str(error)
    listed = [one for one in found.get("faults") or [] if isinstance(one, dict)]
    texts = [_sentence(one) for one in listed[:5]]
    more = int(found.get("total") or len(listed)) - len(texts)
    return "; ".join(texts + ([f"and {more} more"] if more > 0 else []))


def _sentence(fault: dict[str, Any]) -> str:
    where = " ".join(str(fault[key]) for key in ("file", "tensor") if fault.get(key))
    text = f"{where}: {fault.get('message', '')}" if where else str(fault.get("message", ""))
    return f"{text}; {fault['cure']}" if fault.get("cure") else text


def _last_words(pod: Manifest) -> str:
    for one in objects.containers(pod):
        ended = (one.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            return str(ended.get("message") or f"exit code {ended['exitCode']}").strip()[-1024:]
    return ""


def _drop_old(draft: Draft) -> None:
    for name, live in draft.world.all(JOB).items():
        if (JOB.kind, name) not in draft.wanted:
            draft.drop(JOB, live, "another model is asked for")
