"""The shards: one StatefulSet per group and revision, never updated, replaced by another one."""

from glm5_operator import history, manifests, objects
from glm5_operator.draft import Draft
from glm5_operator.history import Template
from glm5_operator.kinds import STATEFUL_SET
from glm5_operator.reasons import Reason
from glm5_operator.scale import replicas
from glm5_operator.shards import SERVED, ShardSet, needed_by, shard_sets


def plan_experts(draft: Draft, wanted: Template, may_roll: bool) -> bool:
    """Ask for the shard sets; return whether the attention workers may roll to what `wanted` serves.

    Args:
        draft: the plan so far.
        wanted: the template that the spec asks for.
        may_roll: the model was checked and nothing is paused; otherwise what is there is kept, and no more.
    """
    sets = shard_sets(draft.world)
    groups = range(replicas(draft.deployment, draft.world, "experts"))
    for one in sets:
        _keep(draft, one)
    if not may_roll:
        _restore(draft, sets, groups, wanted)
        return False
    current = {one.group: one for one in sets if one.revision == wanted.revision}
    missing = [group for group in groups if group not in current]
    old = [one for one in sets if one.revision != wanted.revision or one.group not in groups]
    if _replaces(draft) and [one for one in old if one.group in groups]:
        _replace(draft, wanted, sets, groups)
    else:
        for group in missing:
            _create(draft, group, wanted)
        _remove(draft, old, sets, groups, ready=not missing and all(current[g].complete for g in groups))
    return _may_roll_workers(draft, current, groups)


def _may_roll_workers(draft: Draft, current: dict[int, ShardSet], groups: range) -> bool:
    complete = [current[group].complete for group in groups if group in current]
    if not groups or (any(complete) if _replaces(draft) else len(complete) == len(groups) and all(complete)):
        return True
    lacking = [_silent(one) for one in current.values() if one.group in groups and not one.complete]
    draft.wait(Reason.AWAITING_SHARDS, "; ".join(lacking) or "no shard of this revision exists yet")
    return False


def _silent(one: ShardSet) -> str:
    """Say which shards of a set do not serve yet."""
    indices = [str(i) for i, state in enumerate(one.states) if state is None or not state.ready]
    return f"{one.name}: shards {', '.join(indices[:8])}{' ...' if len(indices) > 8 else ''} of {len(one.states)}"


def _remove(draft: Draft, old: list[ShardSet], sets: list[ShardSet], groups: range, ready: bool) -> None:
    """Drop at most one set that nobody needs: the next plan sees the world without it."""
    for one in old:
        if one.going:
            draft.wait(Reason.AWAITING_WORKERS, f"{one.name} is going")
            return
    for one in old:
        if one.served and groups and not ready:
            continue
        reason = needed_by(one, sets, draft.world) if groups else ""
        if not reason:
            draft.drop(STATEFUL_SET, one.live, "every attention worker routes past it")
            return
        draft.wait(Reason.AWAITING_WORKERS, f"{one.name} stays: {reason}")


def _replace(draft: Draft, wanted: Template, sets: list[ShardSet], groups: range) -> None:
    """Take down one group, start it anew, then the next, while the others serve; what is lacking comes first."""
    present = {one.group for one in sets}
    if absent := [group for group in groups if group not in present]:
        return _create(draft, absent[0], wanted)
    for group in groups:
        mine = [one for one in sets if one.group == group]
        current = [one for one in mine if one.revision == wanted.revision]
        stale = [one for one in mine if one.revision != wanted.revision]
        if stale and not current:
            return _remove(draft, stale, sets, groups, ready=True)
        if stale:
            return _remove(draft, stale, sets, groups, ready=current[0].complete)
        if not current[0].complete:
            return draft.wait(Reason.AWAITING_SHARDS, _silent(current[0]))


def _create(draft: Draft, group: int, template: Template) -> None:
    manifest = manifests.stateful_set(draft.deployment, group, template.revision, template.pod, template.shards)
    draft.want(manifest, "create")


def _keep(draft: Draft, one: ShardSet) -> None:
    """Repair a set, whatever its revision, and note when all its shards were up for the first time."""
    draft.keep(STATEFUL_SET, one.name)
    template = history.stored(draft.world, "experts").get(one.revision)
    if template is None or one.going:
        return
    manifest = manifests.stateful_set(draft.deployment, one.group, one.revision, template.pod, template.shards)
    compat = objects.annotation(one.live, SERVED) or (one.compat if one.complete else "")
    if compat:
        annotations = {**(manifest["metadata"].get("annotations") or {}), SERVED: compat}
        manifest = {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
    draft.want(manifest)


def _restore(draft: Draft, sets: list[ShardSet], groups: range, wanted: Template) -> None:
    """While nothing may roll: bring back the group that somebody deleted, as it was."""
    if not draft.world.all(STATEFUL_SET) and not history.in_use(draft.world, "decode"):
        return  # nothing was ever rolled out
    known = history.stored(draft.world, "experts")
    present = [one for one in sets if not one.going]
    newest = max(present, key=lambda one: known[one.revision].number if one.revision in known else 0, default=None)
    template = known.get(newest.revision) if newest else history.before(draft.world, "experts", wanted.revision)
    template = template or known.get(wanted.revision)
    for group in groups:
        if template is not None and not any(one.group == group for one in present):
            _create(draft, group, template)


def _replaces(draft: Draft) -> bool:
    return draft.deployment.spec.experts.rollout.strategy == "Replace"
