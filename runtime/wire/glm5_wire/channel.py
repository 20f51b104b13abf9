"""Channels to peers. Made by the registry, one per address; typed clients borrow them."""

import grpc.aio

from glm5_wire.limits import Options, keepalive, messages


def open_channel(address: str, detection_seconds: float) -> grpc.aio.Channel:
    """Return a channel to `address` that notices a silent peer and comes back soon after it returns.

    Args:
        address: `host:port` or `unix:path`.
        detection_seconds: a peer without a sign of life for this long counts as dead.
    """
    return grpc.aio.insecure_channel(address, options=_options(detection_seconds))


def _options(detection_seconds: float) -> Options:
    return [
        *messages(),
        *keepalive(detection_seconds),
        # A dead peer's successor is found within a second, not after two minutes of growing backoff.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Also the patience of one connection attempt: a stopped process accepts in the kernel and never answers.
        ("grpc.min_reconnect_backoff_ms", max(100, int(detection_seconds * 1000))),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Peers are always reached directly; a proxy of the environment would hide their death.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        # Calls are repeated by who knows what a repetition means.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
    ]
