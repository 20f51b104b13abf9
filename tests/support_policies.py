"""NetworkPolicies evaluated as the Kubernetes API defines them, for tests where no node enforces them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

Policy = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """One end of a connection: a pod, or with an empty namespace something outside, known by its address."""

    namespace: str
    labels: dict[str, str]
    address: str = "10.1.2.3"


def allowed(policies: list[Policy], source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    """Return whether a connection may be opened: out of its source and into its target."""
    out = _passes(policies, source, target, "Egress", port, protocol)
    return out and _passes(policies, target, source, "Ingress", port, protocol)


def _passes(policies: list[Policy], here: Pod, there: Pod, direction: str, port: int, protocol: str) -> bool:
    """Return whether the policies that select `here` let the other end through; without any, all passes."""
    own = [one for one in policies if _selects(one, here) and direction in one["spec"]["policyTypes"]]
    if not own:
        return True
    side = "from" if direction == "Ingress" else "to"
    return any(
        _port_matches(rule, port, protocol)
        and (side not in rule or any(_peer_matches(peer, there, one["metadata"]["namespace"]) for peer in rule[side]))
        for one in own
        for rule in one["spec"].get(direction.lower(), [])
    )


def _selects(policy: Policy, pod: Pod) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and _labels(policy["spec"]["podSelector"], pod.labels)


def _port_matches(rule: Policy, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(one.get("protocol", "TCP") == protocol and one.get("port", port) == port for one in ports)


def _peer_matches(peer: Policy, pod: Pod, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ipaddress.ip_address(pod.address)
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(one) for one in block.get("except", []))
    if not pod.namespace:
        return False
    if "namespaceSelector" in peer:
        if not _labels(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace}):
            return False
    elif pod.namespace != namespace:
        return False
    return _labels(peer.get("podSelector", {}), pod.labels)


def _labels(selector: Policy, labels: dict[str, str]) -> bool:
    unknown = selector.keys() - {"matchLabels"}
    if unknown:
        raise NotImplementedError(f"a selector with {unknown}; teach this evaluator")
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
