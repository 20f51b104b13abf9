"""`python -m glm5_decode --settings FILE`: one decode worker until SIGTERM."""

import sys

from glm5_decode.service import DecodeWorker
from glm5_spec.settings import WorkerSettings
from glm5_wire.life import role_main

if __name__ == "__main__":
    sys.exit(role_main(WorkerSettings, DecodeWorker))
