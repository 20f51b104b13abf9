"""glm5_engine."""
