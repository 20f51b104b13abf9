"""The rights of the operator's account: what its code needs, and nothing else."""

from __future__ import annotations

from pathlib import Path

import yaml

from glm5_operator.kinds import CHILDREN, EVENT, GLM5_DEPLOYMENT, POD, ROLE_SCALER, WRITTEN, Kind

RIGHTS = Path(__file__).parents[3] / "charts/glm5-operator/files/rights.yaml"
LOOK = {"get", "list", "watch"}


def granted() -> dict[tuple[str, str], set[str]]:
    """(group, resource) to verbs."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in yaml.safe_load(RIGHTS.read_text()):
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def key(kind: Kind, subresource: str = "") -> tuple[str, str]:
    return kind.group, f"{kind.plural}/{subresource}" if subresource else kind.plural


def test_the_operator_may_do_what_it_does_and_no_more() -> None:
    needed = {key(kind): LOOK | {"create", "patch", "delete"} for kind in WRITTEN}
    needed |= {key(kind): LOOK for kind in (GLM5_DEPLOYMENT, POD)}
    needed |= {key(kind, "status"): {"patch"} for kind in (GLM5_DEPLOYMENT, ROLE_SCALER)}
    needed |= {key(GLM5_DEPLOYMENT, "finalizers"): {"update"}, key(EVENT): {"list", "create"}}

    assert granted() == needed
    assert {key(kind) for kind in CHILDREN} <= granted().keys()


def test_nothing_is_granted_by_a_wildcard_and_no_secret_is_read() -> None:
    for (group, resource), verbs in granted().items():
        assert "*" not in {group, resource, *verbs}
    assert ("", "secrets") not in granted()
    assert ("", "pods/exec") not in granted()
