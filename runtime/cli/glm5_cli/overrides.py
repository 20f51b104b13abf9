"""`--set ROLE.FIELD=VALUE`: fields of a role's settings from the command line."""

import json

from glm5_cli.errors import CliError
from glm5_spec.settings import GatewaySettings, RoleSettings, ShardSettings, WorkerSettings

KINDS: dict[str, type[RoleSettings]] = {
    "gateway": GatewaySettings,
    "prefill": WorkerSettings,
    "decode": WorkerSettings,
    "experts": ShardSettings,
}


def overrides(texts: list[str]) -> dict[str, dict[str, object]]:
    """Return role to fields. VALUE is JSON, or a plain string where it is not; role `all` means every role.

    Raises:
        CliError: no such role or field.
    """
    found: dict[str, dict[str, object]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        role, _, field = place.partition(".")
        if not equals or not field:
            raise CliError(f"--set {text}: write ROLE.FIELD=VALUE")
        for name in KINDS if role == "all" else [role]:
            _check(name, field, text)
            found.setdefault(name, {})[field] = _value(value)
    return found


def _check(role: str, field: str, text: str) -> None:
    if role not in KINDS:
        raise CliError(f"--set {text}: no role {role}; the roles are {', '.join(KINDS)}, or all")
    if field not in KINDS[role].model_fields:
        raise CliError(f"--set {text}: {role} has no {field}; it has {', '.join(KINDS[role].model_fields)}")


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
