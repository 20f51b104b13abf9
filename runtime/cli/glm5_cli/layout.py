"""How many processes of each role run here, and with what: from the command line and a deployment file. Pure."""

from dataclasses import dataclass, field
from typing import Literal

from glm5_spec.settings import Dtype, Numerics


@dataclass(frozen=True, slots=True)
class Layout:
    """What `glm5 up` starts."""

    model_path: str
    served_names: tuple[str, ...]
    gateways: int = 1
    prefill: int = 1
    decode: int = 2
    shards: int = 4
    """Shards of a group."""
    groups: int = 1
    dtype: Dtype = "auto"
    numerics: Numerics = "invariant"
    host: str = "127.0.0.1"
    http_port: int = 8000
    """0 takes a free one."""
    grpc_port: int = 8001
    """Of the gateway; 0 takes a free one."""
    api_key_file: str | None = None
    json_logs: bool = False
    otlp_endpoint: str | None = None
    overrides: dict[str, dict[str, object]] = field(default_factory=dict)
    """Role to further fields of its settings."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One process to start: its name, role and the fields of its settings."""

    name: str
    role: Literal["gateway", "prefill", "decode", "experts"]
    fields: dict[str, object]


def units(layout: Layout) -> list[Unit]:
    """Return the processes in the order in which they start: whoever is asked starts before who asks."""
    return [*_shards(layout), *_workers(layout, "prefill"), *_workers(layout, "decode"), *_gateways(layout)]


def _model_fields(layout: Layout) -> dict[str, object]:
    return {"model_path": layout.model_path, "dtype": layout.dtype, "numerics": layout.numerics}


def _shards(layout: Layout) -> list[Unit]:
    found = []
    for group in range(layout.groups):
        for shard in range(layout.shards):
            name = f"experts-{shard}" if layout.groups == 1 else f"experts-{group}-{shard}"
            place: dict[str, object] = {"shard": shard, "num_shards": layout.shards, "group": group}
            found.append(_unit(layout, name, "experts", _model_fields(layout) | place))
    return found


def _workers(layout: Layout, role: Literal["prefill", "decode"]) -> list[Unit]:
    count = layout.prefill if role == "prefill" else layout.decode
    fields = _model_fields(layout) | {"num_shards": layout.shards}
    return [_unit(layout, f"{role}-{i}", role, fields) for i in range(count)]


def _gateways(layout: Layout) -> list[Unit]:
    fields: dict[str, object] = {
        "model_path": layout.model_path,
        "served_names": list(layout.served_names),
        "api_key_file": layout.api_key_file,
    }
    ports: list[dict[str, object]] = [{"http_port": layout.http_port, "grpc_port": layout.grpc_port}]
    ports += [{"http_port": 0, "grpc_port": 0}] * (layout.gateways - 1)
    return [_unit(layout, f"gateway-{i}", "gateway", fields | ports[i]) for i in range(layout.gateways)]


def _unit(
    layout: Layout,
    name: str,
    role: Literal["gateway", "prefill", "decode", "experts"],
    fields: dict[str, object],
) -> Unit:
    telemetry = {"json_logs": layout.json_logs, "otlp_endpoint": layout.otlp_endpoint}
    common: dict[str, object] = {"role": role, "name": name, "host": layout.host, "telemetry": telemetry}
    return Unit(name, role, common | fields | layout.overrides.get(role, {}) | layout.overrides.get(name, {}))
