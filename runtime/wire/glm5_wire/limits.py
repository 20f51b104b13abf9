"""Explicit gRPC options of both ends: message limits, keepalive, backoff."""

MAX_MESSAGE_BYTES = 64 << 20
"""No message of ours is larger: cache chunks have 1 MiB, expert batches are split (see `tensors.experts`)."""

MAX_CONCURRENT_STREAMS = 4096
"""Streams on one connection; more wait at the client."""

Options = list[tuple[str, int]]


def keepalive(detection_seconds: float) -> Options:
    """Return the options with which a silent peer is found within `detection_seconds`.

    A quarter is the pause before a ping, the rest the patience for its answer, for a machine may be busy. Without
    `ping_timeout_ms` a stopped process is found after 60 s, whatever the keepalive says (measured with grpcio 1.85).
    """
    pause, patience = max(50, int(detection_seconds * 250)), max(50, int(detection_seconds * 750))
    return [
        ("grpc.keepalive_time_ms", pause),
        ("grpc.keepalive_timeout_ms", patience),
        ("grpc.http2.ping_timeout_ms", patience),
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
