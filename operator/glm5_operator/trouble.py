"""What keeps a pod from running, in the cluster's own words."""

from collections.abc import Iterable

from glm5_operator import objects
from glm5_operator.kinds import Manifest
from glm5_operator.reasons import Reason
from glm5_operator.world import World

_WAITING = {
    "ErrImagePull": Reason.IMAGE_PULL_FAILED,
    "ImagePullBackOff": Reason.IMAGE_PULL_FAILED,
    "InvalidImageName": Reason.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": Reason.IMAGE_PULL_FAILED,
    "ImageInspectError": Reason.IMAGE_PULL_FAILED,
    "CrashLoopBackOff": Reason.CRASH_LOOPING,
    "RunContainerError": Reason.CONTAINER_CONFIG_WRONG,
    "CreateContainerConfigError": Reason.CONTAINER_CONFIG_WRONG,
    "CreateContainerError": Reason.CONTAINER_CONFIG_WRONG,
}
Trouble = tuple[Reason, str]


def pod_trouble(pod: Manifest) -> Trouble | None:
    """Return reason and message if the pod will not run without help; None while it may."""
    name = objects.name(pod)
    scheduled = objects.condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Reason.UNSCHEDULABLE, f"pod {name}: {scheduled.get('message', '')}{_cure(scheduled)}"
    for one in objects.containers(pod):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if reason := _WAITING.get(waiting.get("reason", "")):
            return reason, f"pod {name}: {_words(one, waiting)}"
    return None


def first_trouble(pods: Iterable[Manifest]) -> Trouble | None:
    """Return the trouble of the first pod, by name, that has one."""
    ordered = sorted(pods, key=objects.name)
    return next((found for pod in ordered if (found := pod_trouble(pod)) is not None), None)


def refusal(world: World, owner: str) -> Trouble | None:
    """Return why no pod could be made for the StatefulSet or Job `owner`; None if none was refused."""
    for one in world.refusals:
        if one.owner == owner:
            return refused(one.message)
    return None


def workload_refusal(workload: Manifest) -> Trouble | None:
    """Return why a Deployment could not make a pod; None if it could."""
    failure = objects.condition(workload, "ReplicaFailure")
    return refused(str(failure.get("message", ""))) if failure.get("status") == "True" else None


def refused(message: str) -> Trouble:
    """Return the reason that fits the words of a refused pod."""
    reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in message else Reason.ADMISSION_REFUSED
    return reason, message


def _cure(scheduled: dict[str, object]) -> str:
    """Return what to do where the scheduler's words are about the claim of the model."""
    message = str(scheduled.get("message", ""))
    missing = "persistentvolumeclaim" in message and "not found" in message
    return "; make this claim, or name another one in spec.model.source" if missing else ""


def _words(status: dict[str, object], waiting: dict[str, object]) -> str:
    """Return what the container said last if it crashed, else what the kubelet says."""
    last = status.get("lastState")
    ended = last.get("terminated") if isinstance(last, dict) else None
    if waiting.get("reason") == "CrashLoopBackOff" and isinstance(ended, dict):
        said = str(ended.get("message") or "").strip()[-512:]
        return f"exit code {ended.get('exitCode')}" + (f": {said}" if said else "")
    return str(waiting.get("message") or waiting.get("reason"))
