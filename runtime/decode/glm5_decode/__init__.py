"""glm5_decode."""
