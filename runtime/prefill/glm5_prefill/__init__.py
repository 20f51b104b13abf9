"""The prefill worker: prompt in, cache chunks out."""

import glm5_wire as glm5_wire  # before grpc: see there
