"""Metrics of the decode worker's transfers."""

from glm5_wire.metrics import counter, histogram

FETCH_SECONDS = histogram("glm5_prefill_fetch_seconds", "Time from admission until a prompt's rows were fetched.")
FETCH_FAILURES = counter("glm5_prefill_fetch_failures_total", "Prefill runs that broke, by error.", ["error"])
FETCHED_BYTES = counter("glm5_prefill_fetched_bytes_total", "Bytes of cache chunks received from prefill workers.")
LOCAL_FALLBACKS = counter(
    "glm5_prefill_fallbacks_total", "Prompts that were computed here because every prefill worker failed."
)
