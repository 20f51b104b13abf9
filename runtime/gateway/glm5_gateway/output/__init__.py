"""From tokens to answers: text, reasoning, tool calls, and the OpenAI objects that carry them. Pure."""
