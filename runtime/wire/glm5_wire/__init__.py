"""glm5_wire."""
