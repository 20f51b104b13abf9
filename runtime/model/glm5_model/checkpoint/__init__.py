"""Reading a Hugging Face checkpoint: each role loads only its part, by ranges of the safetensors files."""

from glm5_model.checkpoint.check import Fault, check
from glm5_model.checkpoint.digest import model_digest
from glm5_model.checkpoint.load_attention import load_attention
from glm5_model.checkpoint.load_experts import load_experts
from glm5_model.checkpoint.reader import Checkpoint

__all__ = ["Checkpoint", "Fault", "check", "load_attention", "load_experts", "model_digest"]
