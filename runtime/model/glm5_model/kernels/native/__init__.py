"""Compiled kernels for float32 on a CPU: a row's bits depend on that row alone, whatever the numerics.

Weights that a checkpoint has in bfloat16 stay so and are widened as they are used, which changes no bit and halves
what must be read from memory: decoding on a CPU is bound by that.
"""
