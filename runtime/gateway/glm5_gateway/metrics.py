"""Metrics of the gateway. `vllm:` names have vLLM's meaning, as a client sees it."""

from glm5_wire.metrics import counter, gauge, histogram

REQUESTS = counter(
    "glm5_gateway_requests_total", "Requests of clients that ended, by route and status.", ["route", "status"]
)
RUNNING = gauge("glm5_gateway_requests_running", "Prompts that are at a decode worker or look for one.")
WAITING = gauge("glm5_gateway_requests_waiting", "Prompts that wait for admission.")
REFUSED = counter("glm5_gateway_refused_total", "Prompts refused because the queue was full.")
CANCELLED = counter("glm5_gateway_cancelled_total", "Requests whose client went away before the end.")
UNKNOWN_FIELDS = counter("glm5_gateway_unknown_fields_total", "Fields of requests that are not known and were ignored.")
ATTEMPTS = counter("glm5_gateway_attempts_total", "Streams opened on decode workers.")
MOVES = counter("glm5_gateway_moves_total", "Streams that went on elsewhere, by cause: broken or draining.", ["cause"])
INEXACT = counter(
    "glm5_gateway_inexact_continuations_total",
    "Streams that went on under another kernel fingerprint, so that equal bits are not promised.",
)
DUPLICATES = counter("glm5_gateway_duplicate_tokens_total", "Tokens that came twice and were dropped.")
FIRST_TOKEN = histogram("vllm:time_to_first_token_seconds", "Time from a request's arrival to its first token.")
NEXT_TOKEN = histogram("vllm:inter_token_latency_seconds", "Time between two arrivals of tokens of one choice.")
WHOLE = histogram(
    "vllm:e2e_request_latency_seconds",
    "Time from a request's arrival to its end.",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)
