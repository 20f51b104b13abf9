"""The metrics of a shard."""

from glm5_wire.metrics import COUNT_BUCKETS, collected_counter, counter, gauge, histogram

QUEUE_BYTES = gauge("glm5_experts_queue_bytes", "Bytes of batches that wait on this shard.")
QUEUE_SECONDS = histogram(
    "glm5_experts_queue_seconds", "Time from receipt of a batch to its product, by lane.", ["lane"]
)
PRODUCT_SECONDS = histogram("glm5_experts_product_seconds", "Time of one grouped product, by lane.", ["lane"])
PRODUCT_ROWS = histogram("glm5_experts_product_rows", "Rows of one grouped product, by lane.", ["lane"], COUNT_BUCKETS)
PRODUCT_BATCHES = histogram(
    "glm5_experts_product_batches", "Batches coalesced into one grouped product, by lane.", ["lane"], COUNT_BUCKETS
)
REFUSED = counter("glm5_experts_refused_total", "Batches answered with a failure, by kind.", ["kind"])
STREAMS = gauge("glm5_experts_streams", "Open streams of attention workers, by lane.", ["lane"])
LOAD = collected_counter("glm5_experts_rows_total", "Rows computed, by layer and logical expert.", ["layer", "expert"])
