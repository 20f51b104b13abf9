"""The decode worker: prompts in, token streams out."""

import glm5_wire as glm5_wire  # before grpc: see there
