"""`python -m glm5_experts --settings FILE`."""

import sys

from glm5_experts.shard import Shard
from glm5_spec.settings import ShardSettings
from glm5_wire.life import role_main

if __name__ == "__main__":
    sys.exit(role_main(ShardSettings, Shard))
