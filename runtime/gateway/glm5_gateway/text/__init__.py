"""Text and tokens: tokenizer, template, detokeniser and the parsers of the model's output. Pure."""
