"""The settings of each role, as one JSON file. Written by `glm5 up` and by the operator; read once at start-up."""

import os
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from glm5_spec.base import Model

Numerics = Literal["invariant", "fast"]
Dtype = Literal["auto", "float32", "bfloat16"]
Device = Literal["cpu", "cuda", "npu"]
RoleName = Literal["gateway", "prefill", "decode", "experts"]


class SettingsError(Exception):
    """A settings file is missing or wrong; the message names file, field and cure."""


class Discovery(Model):
    """Where candidates for peers come from. Exactly one of `file` and `dns` is set."""

    file: str | None = None
    """Path of a JSON file `{"peers": [{"role": ..., "address": ...}]}`, watched for changes."""
    dns: dict[RoleName, str] = Field(default_factory=dict)
    """Role to `host:port` of a headless Service; every A/AAAA record is a candidate."""
    dns_server: str | None = None
    """`host:port` of a resolver; None takes the system's."""
    refresh_seconds: float = Field(default=5.0, gt=0)
    """Pause between two looks at the source."""


class Telemetry(Model):
    """Where traces and logs go."""

    otlp_endpoint: str | None = None
    """Base URL for OTLP over HTTP, for example http://collector:4318; None switches traces off."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that are traced."""
    json_logs: bool = False
    """One JSON object a line instead of text."""


class RoleSettings(Model):
    """What every role has."""

    role: RoleName
    deployment: str = "local"
    """UID of the GLM5Deployment; peers of another one are dropped."""
    name: str
    """Name of this process, unique in the deployment."""
    role_revision: str = "0"
    host: str = "127.0.0.1"
    """Address to listen on, and to tell peers (see `advertise_host`)."""
    advertise_host: str | None = None
    """Address told to peers; None means `host`."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """0 takes a free one."""
    admin_port: int = Field(default=0, ge=0, le=65535)
    socket_dir: str | None = None
    """Folder for a Unix socket `NAME.sock`, which peers on this machine are told instead of host and port: 10 to 20 %
    less time a round trip. None means TCP alone."""
    discovery: Discovery = Discovery()
    detection_seconds: float = Field(default=3.0, gt=0)
    """A peer without a sign of life for this long counts as dead."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """After SIGTERM work may run for this long; then streams are closed and go on elsewhere."""
    telemetry: Telemetry = Telemetry()

    @property
    def told_host(self) -> str:
        """Return the host that peers are told."""
        return self.advertise_host or self.host


class ModelRoleSettings(RoleSettings):
    """What every role that loads weights has."""

    model_path: str
    """Folder of a Hugging Face checkpoint."""
    device: Device = "cpu"
    """What this process computes on; the operator sets it from the role's accelerator."""
    dtype: Dtype = "auto"
    numerics: Numerics = "invariant"
    weight_version: int = Field(default=1, ge=1)
    num_threads: int = Field(default=1, ge=1)
    """Threads of torch in this process."""


class WorkerSettings(ModelRoleSettings):
    """A prefill or a decode worker."""

    role: Literal["prefill", "decode"]
    cache_tokens: int = Field(default=65536, ge=64)
    """Size of the page pool in tokens, rounded down to pages of 64."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Sequences in one step at most."""
    max_step_tokens: int = Field(default=512, ge=1)
    """Rows of one step: decode rows first, the rest for prefill chunks."""
    max_queue: int = Field(default=1024, ge=0)
    """Requests that may wait; one more is refused with RESOURCE_EXHAUSTED."""
    local_prefill_tokens: int = Field(default=64, ge=0)
    """Decode computes an uncached rest of a prompt up to this length itself."""
    reply_mode: Literal["rows", "reduced"] = "rows"
    expert_timeout_seconds: float = Field(default=30.0, gt=0)
    """A layer's batch without result for this long fails the step's requests retryably."""
    micro_batch_rows: int = Field(default=0, ge=0)
    """Steps of at least so many rows are computed as two halves: one computes while the other waits for its experts. 0
    means 32 for decode and 1024 for prefill: a CPU's experts take no longer for 512 rows than for 256."""
    num_shards: int = Field(default=1, ge=1)
    """Shards of a group, to say what is missing."""

    @property
    def halved_from(self) -> int:
        """Return from how many rows on a step is computed as two halves."""
        return self.micro_batch_rows or (32 if self.role == "decode" else 1024)


class ShardSettings(ModelRoleSettings):
    """An experts shard."""

    role: Literal["experts"]
    shard: int = Field(ge=0)
    """Index in the group."""
    num_shards: int = Field(ge=1)
    group: int = Field(default=0, ge=0)
    max_queue_bytes: int = Field(default=256 << 20, ge=1)
    window: int = Field(default=8, ge=1)
    """Batches in flight on one stream."""


class GatewaySettings(RoleSettings):
    """A gateway."""

    role: Literal["gateway"]
    model_path: str
    """Folder with tokenizer.json, tokenizer_config.json, chat_template.jinja, config.json, generation_config.json."""
    served_names: list[str] = Field(min_length=1)
    http_port: int = Field(default=8000, ge=0, le=65535)
    api_key_file: str | None = None
    """One key a line; None lets everybody in."""
    max_queue: int = Field(default=1024, ge=0)
    """Requests waiting for a worker; one more is a 429."""
    max_running: int = Field(default=512, ge=1)
    max_body_bytes: int = Field(default=32 << 20, ge=1024)
    first_token_hold_seconds: float = Field(default=5.0, ge=0)
    """The status line waits this long for a first token; then 200 and keep-alive comments."""
    request_timeout_seconds: float = Field(default=3600.0, gt=0)
    max_attempts: int = Field(default=8, ge=1)
    """Attempts on decode workers in a row that bring no new token, the first included; then a request fails."""
    retry_seconds: float = Field(default=30.0, gt=0)
    """How long a broken stream may look for another worker."""


S = TypeVar("S", bound=RoleSettings)

_ENVIRONMENT = {
    "GLM5_NAME": "name",
    "GLM5_HOST": "advertise_host",
    "GLM5_SHARD": "shard",
    "GLM5_GROUP": "group",
}


def load_settings(kind: type[S], path: str | Path) -> S:
    """Return the settings in the JSON file `path`; GLM5_NAME, GLM5_HOST, GLM5_SHARD and GLM5_GROUP override fields.

    Raises:
        SettingsError: the file cannot be read, or a field is wrong.
    """
    try:
        base = kind.model_validate_json(Path(path).read_bytes()).model_dump()
    except OSError as error:
        raise SettingsError(f"cannot read settings {path}: {error.strerror}; check --settings") from error
    except ValidationError as error:
        raise SettingsError(f"settings {path}: {_first(error)}") from error
    overrides = {field: os.environ[key] for key, field in _ENVIRONMENT.items() if key in os.environ}
    try:
        return kind.model_validate(base | {k: v for k, v in overrides.items() if k in kind.model_fields})
    except ValidationError as error:
        raise SettingsError(f"environment over settings {path}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """Return field and reason of the first fault."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
