"""Explicit gRPC options of both ends: message limits, keepalive, backoff."""

MAX_MESSAGE_BYTES = 64 << 20
"""No message of ours is larger: cache chunks have 1 MiB, expert batches are split (see `tensors.experts`)."""

MAX_CONCURRENT_STREAMS = 4096
"""Streams on one connection; more wait at the client."""

Options = list[tuple[str, int]]


def keepalive(detection_seconds: float) -> Options:
    """Return the options with which a silent peer is found within `detection_seconds`.

    One half is the pause before a ping, the other the wait for its answer. Without `ping_timeout_ms` a stopped
    process is found after 60 s, whatever the keepalive says (measured with grpcio 1.85).
    """
    half = max(50, int(detection_seconds * 500))
    return [
        ("grpc.keepalive_time_ms", half),
        ("grpc.keepalive_timeout_ms", half),
        ("grpc.http2.ping_timeout_ms", half),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def messages() -> Options:
    """Return the message limits, the same on both ends."""
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", 64 << 10),
    ]
