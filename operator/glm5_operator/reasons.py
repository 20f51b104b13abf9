"""The closed sets of words in conditions and events; docs/operator.md explains each, and a test compares the two."""

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition states."""

    READY = "Ready"
    SERVING = "Serving"
    PROGRESSING = "Progressing"
    MODEL_CHECKED = "ModelChecked"
    GATEWAY_READY = "GatewayReady"
    PREFILL_READY = "PrefillReady"
    DECODE_READY = "DecodeReady"
    EXPERTS_READY = "ExpertsReady"
    EXPERTS_COVERED = "ExpertsCovered"


class Reason(StrEnum):
    """Why a condition is as it is."""

    # It is as it should be.
    AS_SPECIFIED = "AsSpecified"
    ANSWERING = "Answering"
    SETTLED = "Settled"
    CHECKED = "Checked"
    PODS_READY = "PodsReady"
    COVERED = "Covered"
    SCALED_TO_ZERO = "ScaledToZero"
    # Work in progress.
    DOWNLOADING = "Downloading"
    CHECKING = "Checking"
    CREATING = "Creating"
    ROLLING_OUT = "RollingOut"
    AWAITING_SHARDS = "AwaitingShards"
    AWAITING_WORKERS = "AwaitingWorkers"
    PODS_STARTING = "PodsStarting"
    # Somebody else has to act.
    PAUSED = "Paused"
    DOWNLOAD_FAILED = "DownloadFailed"
    CHECK_FAILED = "CheckFailed"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOPING = "CrashLooping"
    CONTAINER_CONFIG_WRONG = "ContainerConfigWrong"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_REFUSED = "AdmissionRefused"
    APPLY_FAILED = "ApplyFailed"
    NAME_TAKEN = "NameTaken"
    SPEC_INVALID = "SpecInvalid"
    # What clients meet.
    NO_GATEWAY = "NoGateway"
    NO_DECODE_WORKER = "NoDecodeWorker"
    EXPERTS_MISSING = "ExpertsMissing"
    # Not known.
    NOT_OBSERVED = "NotObserved"


class EventReason(StrEnum):
    """Why an event was written: what the operator did or found."""

    CREATED = "Created"
    ROLLED = "Rolled"
    REMOVED = "Removed"
    REPAIRED = "Repaired"
    MODEL_REJECTED = "ModelRejected"
    BECAME_READY = "BecameReady"
    BECAME_SERVING = "BecameServing"
    STOPPED_SERVING = "StoppedServing"
    STUCK = "Stuck"
    WRITE_FAILED = "WriteFailed"
