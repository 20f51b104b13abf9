"""Who talks to whom: the one table from which discovery and NetworkPolicies are made."""

from glm5_spec.resource import ROLE_NAMES
from glm5_spec.settings import RoleName

CALLS: dict[RoleName, tuple[RoleName, ...]] = {
    "gateway": ("decode",),
    "prefill": ("experts",),
    "decode": ("prefill", "decode", "experts"),
    "experts": (),
}
"""Whom a role sends work to (a decode worker may hand over to another)."""


def peers(role: RoleName) -> tuple[RoleName, ...]:
    """Return the roles with which `role` opens or accepts connections.

    Whoever is called is also a caller: a starting process announces itself to those who will call it.
    """
    return tuple(other for other in ROLE_NAMES if other in CALLS[role] or role in CALLS[other])
