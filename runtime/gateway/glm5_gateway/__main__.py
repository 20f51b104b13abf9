"""`python -m glm5_gateway --settings FILE`: one gateway process."""

import sys

from glm5_gateway.role import GatewayService
from glm5_spec.settings import GatewaySettings
from glm5_wire.life import role_main

if __name__ == "__main__":
    sys.exit(role_main(GatewaySettings, GatewayService))
