"""The wire of glm5-serve."""
