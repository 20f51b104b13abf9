"""The API server, through `kubernetes.aio`: the few verbs that the operator needs, on raw objects.

The only module that knows the client library. The library's models are not used: they double memory and rename fields.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from glm5_operator.errors import Rejected, Unreachable
from glm5_operator.kinds import Kind, Manifest, kind_of

REQUEST_SECONDS = 10.0
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
_LATER = (429, 500, 502, 503, 504)
"""Statuses after which the same request may work."""


async def connect(kubeconfig: str = "") -> "Api":
    """Return a client with the credentials of a file, or with those of the pod."""
    configuration = Configuration()
    if kubeconfig:
        await load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    else:
        load_incluster_config(client_configuration=configuration)
    return Api(ApiClient(configuration))


class Api:
    """A client of the API server. Every call raises Unreachable or Rejected, and ends in REQUEST_SECONDS."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return one object; None if there is none."""
        try:
            return await self._call("GET", kind.path(namespace, name))
        except Rejected as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str = "", selector: str = "", fields: str = "") -> list[Manifest]:
        """Return the objects that match a label and a field selector; all namespaces if none is given."""
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": "500"}
        found: list[Manifest] = []
        while True:
            answer = await self._call("GET", kind.path(namespace or None), {k: v for k, v in query.items() if v})
            # Items of a list carry neither kind nor apiVersion.
            found += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer.get("items") or []]
            query["continue"] = str(answer["metadata"].get("continue") or "")
            if not query["continue"]:
                return found

    async def apply(self, manifest: Manifest, manager: str, subresource: str | None = None) -> Manifest:
        """Apply server-side: the object has the fields of `manifest` afterwards, and they are ours."""
        metadata = manifest["metadata"]
        path = kind_of(manifest).path(metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        return await self._call("PATCH", path, query, manifest, _APPLY)

    async def create(self, manifest: Manifest, manager: str) -> Manifest:
        """Create an object.

        Raises:
            Rejected: also if one of this name exists (status 409).
        """
        path = kind_of(manifest).path(manifest["metadata"]["namespace"])
        return await self._call("POST", path, {"fieldManager": manager}, manifest)

    async def replace(self, manifest: Manifest, manager: str) -> Manifest:
        """Replace an object if it is still at the resourceVersion of `manifest`, else Rejected with status 409."""
        metadata = manifest["metadata"]
        path = kind_of(manifest).path(metadata["namespace"], metadata["name"])
        return await self._call("PUT", path, {"fieldManager": manager}, manifest)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object `name` if it has this uid; one that is gone is fine."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", kind.path(namespace, name), {}, body)
        except Rejected as error:
            if error.status not in (404, 409):
                raise

    async def _call(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None, content: str = _JSON
    ) -> Manifest:
        headers = {"Accept": _JSON, "Content-Type": content}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await self._client.call_api(method, url, headers, body, _request_timeout=REQUEST_SECONDS)
                text = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        return _value(method, path, answer.status, text)


def _value(method: str, path: str, status: int, text: bytes) -> Manifest:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        value = {"message": text[:256].decode(errors="replace")}
    if status < 300:
        return dict(value)
    message = str(value.get("message") or f"status {status}")
    if status in _LATER:
        raise Unreachable(f"{method} {path}: {message}")
    raise Rejected(status, str(value.get("reason") or ""), message)
