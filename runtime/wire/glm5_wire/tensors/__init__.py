"""Tensors on the wire and the client of the expert shards: the part of glm5_wire that needs torch."""
