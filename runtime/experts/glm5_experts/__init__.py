"""An experts shard: rows of any attention worker in, outputs of the experts held here out. Stateless."""

import glm5_wire as glm5_wire  # before grpc: see there
