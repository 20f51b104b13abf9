"""glm5_cli."""
