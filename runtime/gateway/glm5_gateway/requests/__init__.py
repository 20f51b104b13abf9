"""Request bodies in the shape of the OpenAI API: validation, defaults, and errors that name the field."""
