"""glm5_model."""
