"""Which shard holds what: the full table for GLM5ExpertPlacement, short strings for the status."""

from collections.abc import Iterable
from itertools import groupby

from glm5_operator import manifests, names
from glm5_operator.draft import Draft
from glm5_operator.kinds import PLACEMENT
from glm5_operator.shards import ShardSet, shard_sets
from glm5_operator.world import World
from glm5_spec.admin import RoleState
from glm5_spec.resource import ExpertsStatus, GLM5ExpertPlacement, LayerHolding, ShardPlacement, ShardStatus

Table = dict[int, set[int]]
"""Layer to experts."""


def plan_placement(draft: Draft) -> None:
    """Ask for the placement object as the shards report it; its epoch grows with every change."""
    table = [_placement(one, index) for one in shard_sets(draft.world) for index in range(len(one.states))]
    summary = coverage(draft.world).summary
    live = draft.world.get(PLACEMENT, names.placement(draft.deployment.metadata.name))
    epoch = 0
    if live is not None:
        before = GLM5ExpertPlacement.model_validate(live, extra="ignore")
        epoch = before.epoch + (list(before.shards) != table)
    draft.want(manifests.expert_placement(draft.deployment, epoch, summary, table))


def coverage(world: World) -> ExpertsStatus:
    """Return what is reachable on ready shards, per layer at the least, and one line for each shard."""
    sets = [one for one in shard_sets(world) if not one.going]
    held: Table = {}
    known: Table = {}
    for state in (state for one in sets for state in one.states if state is not None):
        for layer, experts in _table(state).items():
            known.setdefault(layer, set()).update(experts)
            if state.ready:
                held.setdefault(layer, set()).update(experts)
    whole = any(all(state is not None for state in one.states) for one in sets)
    total = max((len(experts) for experts in known.values()), default=0) if whole else 0
    covered = min((len(held.get(layer, ())) for layer in known), default=0)
    shards = [_status(one, index) for one in sets for index in range(len(one.states))]
    return ExpertsStatus(total=total, covered=covered, summary=f"{covered}/{total or '?'}", shards=shards)


def runs(numbers: Iterable[int]) -> str:
    """Return numbers as text, runs joined: {0, 1, 2, 7} is "0-2,7"."""
    ordered = sorted(set(numbers))
    parts = []
    for _, group in groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        parts.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    return ",".join(parts)


def _table(state: RoleState) -> Table:
    table: Table = {}
    for one in state.holdings:
        table.setdefault(one.layer, set()).update(range(one.first, one.first + one.count))
    return table


def _status(one: ShardSet, index: int) -> ShardStatus:
    state = one.states[index]
    texts = {runs(experts) for experts in _table(state).values()} if state else set()
    experts = texts.pop() if len(texts) == 1 else ("varies" if texts else "")
    ready = state is not None and state.ready
    return ShardStatus(name=f"{one.name}-{index}", group=one.group, shard=index, ready=ready, experts=experts)


def _placement(one: ShardSet, index: int) -> ShardPlacement:
    state = one.states[index]
    by_experts: dict[str, list[int]] = {}
    for layer, experts in sorted(_table(state).items() if state else ()):
        by_experts.setdefault(runs(experts), []).append(layer)
    holdings = [LayerHolding(layers=runs(layers), experts=experts) for experts, layers in by_experts.items()]
    return ShardPlacement(
        name=f"{one.name}-{index}",
        group=one.group,
        shard=index,
        revision=one.revision,
        ready=state is not None and state.ready,
        holdings=holdings,
    )
