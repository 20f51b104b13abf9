"""glm5_gateway."""
