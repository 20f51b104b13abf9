"""The HTTP side: routes, middleware, streaming, and the OpenAPI document."""
