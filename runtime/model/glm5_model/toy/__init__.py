"""Complete Hugging Face checkpoints made here: the random toy, and the parts that the demo model shares with it.

Called by `glm5 toy`, by `python -m glm5_model.toy`, by tests, and by `examples/demo-model/train.py`.
"""

from glm5_model.toy.errors import ToyError
from glm5_model.toy.sizes import ToySizes
from glm5_model.toy.write import write_toy

__all__ = ["ToyError", "ToySizes", "write_toy"]
