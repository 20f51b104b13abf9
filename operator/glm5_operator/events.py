"""Events for humans: what the operator did, and what became of the deployment."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glm5_operator import objects
from glm5_operator.api import Api
from glm5_operator.conditions import STUCK
from glm5_operator.errors import Rejected, Unreachable
from glm5_operator.kinds import EVENT, Manifest
from glm5_operator.names import FIELD_MANAGER
from glm5_operator.reasons import ConditionType, EventReason, Reason
from glm5_operator.steps import Apply, Delete, Step, Wait
from glm5_spec.resource import Condition, GLM5Deployment

_TOLD = {"Deployment", "StatefulSet", "Job"}
"""Kinds whose making and removal is worth an event."""
_VERDICTS = (Reason.CHECK_FAILED, Reason.DOWNLOAD_FAILED)
"""What a Job has said of the model; a Job that cannot run yet says nothing of it."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Note:
    """One event before it is written."""

    reason: EventReason
    message: str
    warning: bool = False
    moment: str = ""
    """Tells two events with the same words apart; empty if one in an hour is enough."""


def of_steps(steps: Iterable[Step], refused: Iterable[Wait]) -> list[Note]:
    """Return the events of a pass: what was made, rolled, removed or repaired, and which writes were refused."""
    notes = [note for step in steps if (note := _of_step(step)) is not None]
    return notes + [Note(EventReason.WRITE_FAILED, f"{one.reason}: {one.message}", warning=True) for one in refused]


def of_conditions(before: Sequence[Condition], after: Sequence[Condition]) -> list[Note]:
    """Return the events of changes between two statuses."""
    old = {one.type: one for one in before}
    return [note for one in after if (note := _of_change(old.get(one.type), one)) is not None]


async def write(api: Api, deployment: GLM5Deployment, notes: Iterable[Note], now: str) -> None:
    """Write events; one that cannot be written is logged and lost, since nothing depends on it."""
    for note in notes:
        try:
            await api.create(manifest(deployment, note, now), FIELD_MANAGER)
        except Rejected as error:
            if error.status != 409:  # 409: the same was said within the hour
                log.warning("event not written reason=%s error=%s", note.reason, error)
        except Unreachable as error:
            log.warning("event not written reason=%s error=%s", note.reason, error)


def manifest(deployment: GLM5Deployment, note: Note, now: str) -> Manifest:
    """Return the event; its name is a hash of what it says, so the same is said once."""
    metadata = deployment.metadata
    words = f"{metadata.uid} {note.reason} {note.message} {note.moment}"
    about = {"apiVersion": deployment.api_version, "kind": deployment.kind, "name": metadata.name}
    about |= {"namespace": metadata.namespace, "uid": metadata.uid}
    name = f"{metadata.name}.{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": name, "namespace": metadata.namespace},
        "involvedObject": about,
        "type": "Warning" if note.warning else "Normal",
        "reason": note.reason.value,
        "message": note.message[:1024],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _of_step(step: Step) -> Note | None:
    if isinstance(step, Delete):
        return Note(EventReason.REMOVED, f"{step.kind.kind} {step.name}: {step.why}") if _told(step.kind.kind) else None
    what = f"{step.manifest['kind']} {objects.name(step.manifest)}"
    if isinstance(step, Apply) and step.why == "repair":
        return Note(EventReason.REPAIRED, f"{what} was changed by somebody else and is as before")
    if isinstance(step, Apply) and step.why == "roll":
        return Note(EventReason.ROLLED, f"{what} rolls to a new revision")
    return Note(EventReason.CREATED, what) if step.why == "create" and _told(step.manifest["kind"]) else None


def _told(kind: str) -> bool:
    return kind in _TOLD


def _of_change(before: Condition | None, after: Condition) -> Note | None:
    was = before.status if before else "Unknown"
    changed = was != after.status or before is None or before.reason != after.reason
    if not changed:
        return None
    text, moment = after.message or after.reason, after.last_transition_time
    match after.type, after.status:
        case ConditionType.READY, "True":
            return Note(EventReason.BECAME_READY, "everything is as the spec says", moment=moment)
        case ConditionType.SERVING, "True":
            return Note(EventReason.BECAME_SERVING, "clients get answers", moment=moment)
        case ConditionType.SERVING, "False" if was == "True":
            return Note(EventReason.STOPPED_SERVING, f"{after.reason}: {text}", warning=True, moment=moment)
        case ConditionType.MODEL_CHECKED, "False" if Reason(after.reason) in _VERDICTS:
            return Note(EventReason.MODEL_REJECTED, f"{after.reason}: {text}", warning=True)
        case ConditionType.PROGRESSING, "False" if Reason(after.reason) in STUCK:
            return Note(EventReason.STUCK, f"{after.reason}: {text}", warning=True)
    return None
