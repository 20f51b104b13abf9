"""What can be wrong with a request for a toy."""


class ToyError(ValueError):
    """A toy cannot be written as asked; the message says which value is wrong and what would be right."""
