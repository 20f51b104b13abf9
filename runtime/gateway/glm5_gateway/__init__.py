"""The gateway: OpenAI's API over HTTP and gRPC in front of the decode workers. The only room that knows text."""
