"""The operator's settings, from environment variables that begin with GLM5_OPERATOR_; read once at start-up."""

import os
import secrets
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, ValidationError

from glm5_operator.errors import SettingsError
from glm5_spec.base import Model

PREFIX = "GLM5_OPERATOR_"


class Settings(Model):
    """How this replica of the operator works."""

    namespace: str = "glm5-system"
    """Namespace of the operator itself: its lease is there."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces whose deployments are served, separated by commas; empty means all."""
    metrics_namespaces: tuple[str, ...] = ()
    """Namespaces, separated by commas, from which metrics of the pods may be read (NetworkPolicies)."""
    pod_uid: str = ""
    """UID of this pod; part of the identity on the lease."""
    lease_name: str = Field(default="glm5-operator", min_length=1)
    lease_seconds: float = Field(default=10.0, gt=0)
    """A leader that did not renew for this long is replaced."""
    renew_seconds: float = Field(default=7.0, gt=0)
    """A leader that could not renew for this long stops writing."""
    retry_seconds: float = Field(default=2.0, gt=0)
    """Pause between two attempts to get or renew the lease."""
    resync_seconds: float = Field(default=300.0, gt=0)
    """Every deployment is looked at this often, events or not."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """Pause between two questions to a pod's `/v1/state`."""
    deaf_seconds: float = Field(default=90.0, gt=0)
    """Liveness fails if the API server had news for this long that our watch did not bring."""
    host: str = "0.0.0.0"
    """Address on which probes and metrics are served."""
    probe_port: int = Field(default=8080, ge=0, le=65535)
    """Port of /healthz, kopf's probes; 0 switches it off."""
    metrics_port: int = Field(default=8081, ge=0, le=65535)
    """Port of /metrics; 0 switches it off."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str = ""
    """Base URL for traces as OTLP over HTTP; empty switches them off."""
    kubeconfig: str = ""
    """File with address and credentials of the cluster; empty means those of the pod."""
    failpoint_write: int = Field(default=0, ge=0)
    """Tests only: the process ends at once after this many writes; 0 means never."""
    nonce: str = Field(default_factory=lambda: secrets.token_hex(4))
    """Tells two lives of one pod apart."""

    @property
    def identity(self) -> str:
        """Return who we are on the lease."""
        return f"{self.pod_uid or f'process-{os.getpid()}'}-{self.nonce}"


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the settings in `environment`.

    Raises:
        SettingsError: a variable is unknown or its value is wrong.
    """
    given = {key.removeprefix(PREFIX).lower(): value for key, value in environment.items() if key.startswith(PREFIX)}
    values: dict[str, object] = dict(given)
    for field in ("watch_namespaces", "metrics_namespaces"):
        if field in given:
            values[field] = tuple(part.strip() for part in given[field].split(",") if part.strip())
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        raise SettingsError(f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}; see docs/operator.md") from error
    if not settings.retry_seconds < settings.renew_seconds < settings.lease_seconds:
        raise SettingsError(f"{PREFIX}RENEW_SECONDS must be above RETRY_SECONDS and below LEASE_SECONDS")
    return settings
