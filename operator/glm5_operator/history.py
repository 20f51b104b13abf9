"""The stored templates: one ControllerRevision per role revision, written before its first pod and never changed.

While the user's inputs are the same, pods are made from what is stored, whatever this version of the operator would
render. Going back to an earlier spec finds its template here.
"""

from dataclasses import dataclass

from glm5_operator import manifests, objects
from glm5_operator.draft import Draft
from glm5_operator.kinds import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, POD, STATEFUL_SET, Kind, Manifest
from glm5_operator.names import REVISION_LABEL, ROLE_LABEL
from glm5_operator.revision import role_revision
from glm5_operator.world import World
from glm5_spec.resource import GLM5Deployment
from glm5_spec.settings import RoleName

KEPT = 10
"""Revisions of a role that are kept for going back, besides those in use."""


@dataclass(frozen=True, slots=True)
class Template:
    """What the pods of one revision of a role are made from."""

    role: RoleName
    revision: str
    number: int
    """Grows with each new revision of the role."""
    stored: Manifest
    """The ControllerRevision, as it is or as it shall be."""
    exists: bool

    @property
    def pod(self) -> Manifest:
        """Return the pod template."""
        body: Manifest = self.stored["data"]["template"]
        return body

    @property
    def shards(self) -> int:
        """Return the number of shards of a group (experts only)."""
        return int(self.stored["data"]["shards"])


def stored(world: World, role: RoleName) -> dict[str, Template]:
    """Return the stored templates of `role` by revision."""
    found = {}
    for live in world.all(CONTROLLER_REVISION).values():
        if objects.label(live, ROLE_LABEL) == role and not objects.terminating(live):
            revision = objects.label(live, REVISION_LABEL)
            found[revision] = Template(role, revision, int(live["revision"]), live, exists=True)
    return found


def target(deployment: GLM5Deployment, world: World, role: RoleName) -> Template:
    """Return the template that the spec asks for: the stored one, else one rendered now."""
    known = stored(world, role)
    revision = role_revision(deployment, role)
    if revision in known:
        return known[revision]
    number = 1 + max((one.number for one in known.values()), default=0)
    rendered = manifests.controller_revision(deployment, role, revision, number)
    return Template(role, revision, number, rendered, exists=False)


def before(world: World, role: RoleName, revision: str) -> Template | None:
    """Return the newest stored template that is not `revision`; None if there is none."""
    others = [one for one in stored(world, role).values() if one.revision != revision]
    return max(others, key=lambda one: one.number, default=None)


def keep(draft: Draft, template: Template) -> None:
    """Ask for the ControllerRevision and the settings of a template that is in use."""
    rendered = manifests.controller_revision(draft.deployment, template.role, template.revision, template.number)
    draft.want({**rendered, "data": template.stored["data"]})
    settings = template.stored["data"]["settings"]
    skeleton = manifests.settings_map(draft.deployment, template.role, template.revision)
    metadata = {**skeleton["metadata"], "name": settings["name"]}
    draft.want({**skeleton, "metadata": metadata, "data": settings["data"]})


def in_use(world: World, role: RoleName) -> set[str]:
    """Return the revisions of `role` that some workload or pod is of."""
    found = {objects.label(live, REVISION_LABEL) for kind in (STATEFUL_SET, POD) for live in _of(world, kind, role)}
    for live in _of(world, DEPLOYMENT, role):
        found.add(objects.label(live["spec"]["template"], REVISION_LABEL))
    return found - {""}


def prune(draft: Draft, role: RoleName, wanted: str) -> None:
    """Drop settings that nobody mounts, and revisions beyond the last KEPT that nobody uses."""
    used = in_use(draft.world, role) | {wanted}
    known = sorted(stored(draft.world, role).values(), key=lambda one: one.number, reverse=True)
    mounted = {one.stored["data"]["settings"]["name"] for one in known if one.revision in used}
    for live in _of(draft.world, CONFIG_MAP, role):
        if objects.name(live) not in mounted:
            draft.drop(CONFIG_MAP, live, "settings of no pod")
    for old in [one for one in known if one.revision not in used][KEPT:]:
        draft.drop(CONTROLLER_REVISION, old.stored, f"more than {KEPT} revisions ago")


def _of(world: World, kind: Kind, role: RoleName) -> list[Manifest]:
    return [live for live in world.all(kind).values() if objects.label(live, ROLE_LABEL) == role]
