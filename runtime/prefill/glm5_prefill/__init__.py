"""glm5_prefill."""
