"""gRPC between the roles: servers, channels, discovery, typed clients, deadlines, and the life of a role process.

Torch is imported only below `glm5_wire.tensors`, so that a gateway stays without it.
"""
