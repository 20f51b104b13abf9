"""Roles as numbers of the wire and as names, and who looks at whom."""

from typing import TypeAlias

from glm5.v1 import peer_pb2 as pb
from glm5_spec.settings import RoleName

Role: TypeAlias = "pb.Role.ValueType"

NUMBERS: dict[RoleName, Role] = {
    "gateway": pb.ROLE_GATEWAY,
    "prefill": pb.ROLE_PREFILL,
    "decode": pb.ROLE_DECODE,
    "experts": pb.ROLE_EXPERTS,
}
NAMES: dict[Role, RoleName] = {number: name for name, number in NUMBERS.items()}

WANTS: dict[RoleName, frozenset[RoleName]] = {
    "gateway": frozenset({"decode"}),
    "decode": frozenset({"prefill", "experts"}),
    "prefill": frozenset({"experts"}),
    "experts": frozenset(),
}
"""The roles whose processes a role calls. Everybody announces itself to those who want it."""
