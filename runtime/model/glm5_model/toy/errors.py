"""What can be wrong with a request for a toy."""

from glm5_model.errors import ModelError


class ToyError(ModelError):
    """A toy cannot be written as asked; the message says which value is wrong and what would be right."""
