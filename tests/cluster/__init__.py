"""A real Kubernetes for tests, built from Go modules and Debian packages where no image can be pulled.

Used as `python -m cluster STEP` (the Makefile does) and by the test support modules. Each artifact is cached under
`~/.cache/glm5-serve/cluster` by the hash of its inputs, so a step costs nothing until an input changes.
"""
