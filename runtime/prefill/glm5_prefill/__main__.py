"""`python -m glm5_prefill --settings FILE`: one prefill worker until SIGTERM."""

import sys

from glm5_prefill.service import PrefillWorker
from glm5_spec.settings import WorkerSettings
from glm5_wire.life import role_main

if __name__ == "__main__":
    sys.exit(role_main(WorkerSettings, PrefillWorker))
