"""glm5_operator."""
