"""What can go wrong in the model: every error says what, where, why and how to mend it."""


class ModelError(Exception):
    """The root of the errors of this room."""


class ConfigError(ModelError):
    """config.json names a model that this runtime cannot compute, or lacks a key."""

    def __init__(self, message: str, kind: str = "config_value") -> None:
        """Say what is wrong and how to mend it.

        Args:
            message: place, values seen and wanted, cure.
            kind: the fault's name in `checkpoint.check`.
        """
        super().__init__(message)
        self.kind = kind


class CheckpointError(ModelError):
    """A checkpoint's files are missing, damaged or do not fit its config.json."""

    def __init__(self, file: str, tensor: str, message: str, cure: str, kind: str = "damaged") -> None:
        """Name the place and the cure.

        Args:
            file: the file's name inside the checkpoint folder, or the folder itself.
            tensor: the tensor's name, or "" where the whole file is meant.
            message: what is wrong, with the values seen and wanted.
            cure: what the user can do.
            kind: the fault's name in `checkpoint.check`.
        """
        place = f"{file}: {tensor}" if tensor else file
        super().__init__(f"checkpoint {place}: {message}; {cure}")
        self.file, self.tensor, self.message, self.cure, self.kind = file, tensor, message, cure, kind


class NotHeld(ModelError):
    """A row was sent for an expert that these weights do not hold."""

    def __init__(self, layer: int, expert: int, held: tuple[int, ...] = ()) -> None:
        """Say what was asked for and what is held."""
        holds = f"experts {held[0]} to {held[-1]} ({len(held)} of them)" if held else "no experts"
        super().__init__(
            f"expert {expert} of layer {layer} is not held here: this process holds {holds} of that layer; "
            "send the row to a shard whose holdings list the expert"
        )
        self.layer, self.expert = layer, expert


class CacheError(ModelError):
    """Rows were addressed outside the pages that a sequence or the pool has."""


class DeviceError(ModelError):
    """This process cannot compute on the device that it was told to use."""


class NumericsError(ModelError):
    """This machine's library cannot give results that depend on their own row alone."""
