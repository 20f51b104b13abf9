"""glm5_experts."""
