"""The gateway: OpenAI's API over HTTP and gRPC in front of the decode workers. The only room that knows text."""

import glm5_wire as glm5_wire  # before grpc: see there
