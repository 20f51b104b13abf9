"""Metrics of the engine. Names with `vllm:` have vLLM's meaning, so that its dashboards and autoscalers work."""

from glm5_wire.metrics import COUNT_BUCKETS, counter, gauge, histogram

RUNNING = gauge("vllm:num_requests_running", "Sequences that take part in steps or are being fetched.")
WAITING = gauge("vllm:num_requests_waiting", "Requests that wait for admission, and preempted sequences.")
CACHE_USAGE = gauge("vllm:kv_cache_usage_perc", "Share of the cache's pages in use, 0 to 1.")
PAGES_USED = gauge("glm5_pages_in_use", "Pages of the cache in use.")
PREEMPTIONS = counter("vllm:num_preemptions_total", "Sequences whose pages were taken and that are computed again.")
CALLS = counter("glm5_engine_calls_total", "Requests that the engine took in; refused ones are not among them.")
PROMPT_TOKENS = counter("vllm:prompt_tokens_total", "Prompt tokens of requests that were accepted.")
GENERATION_TOKENS = counter("vllm:generation_tokens_total", "Output tokens that were drawn.")
STEP_ROWS = histogram("vllm:iteration_tokens_total", "Rows of a step.", buckets=COUNT_BUCKETS)
STEP_SECONDS = histogram("glm5_step_seconds", "Duration of a step: compute and waiting for experts.")
STEP_RETRIES = counter("glm5_step_retries_total", "Steps that were begun again because a shard did not answer.")
FINISHED = counter("vllm:request_success_total", "Choices that finished, by reason.", ["finished_reason"])
FAILED = counter("glm5_requests_failed_total", "Requests that ended with an error, by its kind.", ["error"])
CANCELLED = counter("glm5_requests_cancelled_total", "Requests that their caller gave up.")
QUEUE_SECONDS = histogram("vllm:request_queue_time_seconds", "Time from arrival to the first step of a request.")
