"""gRPC between the roles: servers, channels, discovery, typed clients, deadlines, and the life of a role process.

Torch is imported only below `glm5_wire.tensors`, so that a gateway stays without it. The packages of the roles import
this one before anything else, because gRPC reads its environment when it is imported.
"""

import os

# Sockets are read by the thread that waits for gRPC's completions instead of handed over by threads of gRPC's event
# engine: a hop between threads less for each message, 5 to 15 % more tokens a second (measured on two cores).
os.environ.setdefault(
    "GRPC_EXPERIMENTS",
    ",".join(f"-event_engine_{part}" for part in ("client", "listener", "for_all_other_endpoints")),
)
