"""The decode worker: prompts in, token streams out."""
