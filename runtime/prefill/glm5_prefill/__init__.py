"""The prefill worker: prompt in, cache chunks out."""
