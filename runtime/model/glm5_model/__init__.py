"""The mathematics of `glm_moe_dsa` models and their checkpoints: torch, no network, no settings.

The attention workers use `Transformer` and `PagedCache`, an experts shard uses `ExpertWeights`, and both load with
`checkpoint`. Nothing here waits: the forward pass is a generator that hands expert batches to whoever drives it.
"""
