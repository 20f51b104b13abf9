"""How large a toy is."""

from dataclasses import dataclass, fields

from glm5_model.toy.errors import ToyError


@dataclass(frozen=True, slots=True)
class ToySizes:
    """Sizes of a checkpoint, spelled as in Hugging Face's config.

    The defaults give 4.3 million parameters: a forward of 200 tokens takes well under a second on one core, and
    every mechanism of the architecture is at work in it.
    """

    hidden_size: int = 64
    num_dense_layers: int = 3
    """Layers with a dense MLP; they come first."""
    num_sparse_layers: int = 5
    """Layers with experts."""
    num_attention_heads: int = 4
    q_lora_rank: int = 32
    kv_lora_rank: int = 32
    qk_nope_head_dim: int = 16
    qk_rope_head_dim: int = 16
    v_head_dim: int = 16
    intermediate_size: int = 128
    """Width of the dense MLPs."""
    moe_intermediate_size: int = 16
    """Width of one expert, routed or shared."""
    n_routed_experts: int = 256
    num_experts_per_tok: int = 8
    n_shared_experts: int = 1
    index_n_heads: int = 16
    """With few heads whole ranges of index scores tie at 0, and then the order of memory decides: keep 16 or more."""
    index_head_dim: int = 32
    index_topk: int = 64
    """Small, so that prompts of 65 tokens already select."""
    vocab_size: int = 320
    """292 tokens of the toy's tokenizer, the rest is padding, as on the real model."""
    max_position_embeddings: int = 32768
    fp8_block: int = 16
    """Rows and columns that share one FP8 scale. 16 divides every default size, so transformers can load the toy; 32
    leaves half a block in the 48 rows of kv_a_proj_with_mqa, as 128 does in the real model's 576."""
    file_bytes: int = 4 << 20
    """Tensor bytes after which the next safetensors file begins; files hold whole tensors."""

    def __post_init__(self) -> None:
        wrong = [f"{field.name} is {self._get(field.name)}" for field in fields(self) if self._get(field.name) < 1]
        if self.num_experts_per_tok > self.n_routed_experts:
            wrong.append(f"num_experts_per_tok {self.num_experts_per_tok} is above n_routed_experts")
        if self.index_head_dim < self.qk_rope_head_dim:
            wrong.append(f"index_head_dim {self.index_head_dim} is below qk_rope_head_dim {self.qk_rope_head_dim}")
        if self.qk_rope_head_dim % 2:
            wrong.append(f"qk_rope_head_dim {self.qk_rope_head_dim} is odd, but rotations work on pairs")
        if wrong:
            raise ToyError("toy sizes: " + "; ".join(wrong) + ". Give sizes of 1 or more that fit together.")

    def _get(self, name: str) -> int:
        return int(getattr(self, name))

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the main model; a next-token-prediction layer would have this index."""
        return self.num_dense_layers + self.num_sparse_layers

    @classmethod
    def of(cls, sizes: dict[str, int]) -> "ToySizes":
        """Return the defaults with `sizes` put over them.

        Raises:
            ToyError: a name is unknown or a value does not fit.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(sizes) - set(known))
        if unknown:
            raise ToyError(f"toy sizes: unknown {', '.join(unknown)}; known are {', '.join(known)}.")
        return cls(**sizes)
