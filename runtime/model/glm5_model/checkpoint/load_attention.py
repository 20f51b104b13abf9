"""Loading an attention worker's part: everything but the routed experts."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from glm5_model import names
from glm5_model.checkpoint.reader import Checkpoint
from glm5_model.config import ModelConfig
from glm5_model.rope import pairs_apart
from glm5_model.weights import AttentionWeights, IndexerWeights, LayerWeights, MlpWeights, MoeWeights, MtpWeights

Progress = Callable[[float], None]


def load_attention(
    path: str | Path,
    dtype: torch.dtype,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
    widens: bool = False,
) -> AttentionWeights:
    """Return everything but the routed experts of the checkpoint at `path`.

    Args:
        path: a checkpoint folder.
        dtype: element type to compute in; the router stays float32.
        progress: is told the share that is loaded, from 0 to 1, after each layer.
        device: where the weights go, tensor by tensor.
        widens: what multiplies takes bfloat16 where rows are float32; then such weights stay as they are stored.

    Raises:
        ConfigError: config.json describes another model.
        CheckpointError: a tensor is missing or damaged.
    """
    config = ModelConfig.from_dir(path)
    with Checkpoint(path) as checkpoint:
        return _Loader(checkpoint, config, dtype, progress or (lambda _: None), torch.device(device), widens).load()


class _Loader:
    """Reads tensors and puts them into the shapes of `weights`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: ModelConfig,
        dtype: torch.dtype,
        progress: Progress,
        device: torch.device,
        widens: bool,
    ) -> None:
        self.checkpoint, self.config, self.dtype, self.progress = checkpoint, config, dtype, progress
        self.device, self.widens = device, widens
        self.with_mtp = config.num_mtp_layers > 0 and checkpoint.has_prefix(names.layer_prefix(config.num_layers))
        self.pairs = pairs_apart(config.qk_rope_head_dim)
        self.shapes = names.worker_shapes(config, self.with_mtp)

    def load(self) -> AttentionWeights:
        """Return the whole part."""
        layers = []
        for index in range(self.config.num_layers):
            sparse, full = self.config.mlp_layer_types[index] == "sparse", self.config.indexer_types[index] == "full"
            layers.append(self.layer(names.layer_prefix(index), sparse, full))
            self.progress((index + 1) / (self.config.num_layers + 1))
        weights = AttentionWeights(
            embedding=self.tensor(names.EMBED),
            layers=tuple(layers),
            final_norm=self.tensor(names.FINAL_NORM),
            head=self.product(names.HEAD),
            mtp=self.mtp() if self.with_mtp else None,
        )
        self.progress(1.0)
        return weights

    def layer(self, prefix: str, sparse: bool, full: bool) -> LayerWeights:
        """Return one layer."""
        attention, indexer = prefix + "self_attn.", prefix + "self_attn.indexer."
        absorb_keys, expand_values = self.latent_products(attention + "kv_b_proj.weight")
        return LayerWeights(
            input_norm=self.tensor(prefix + "input_layernorm.weight"),
            post_norm=self.tensor(prefix + "post_attention_layernorm.weight"),
            from_hidden=self.from_hidden(attention, full),
            q_norm=self.tensor(attention + "q_a_layernorm.weight"),
            kv_norm=self.tensor(attention + "kv_a_layernorm.weight"),
            from_query=self.from_query(attention, full),
            absorb_keys=absorb_keys,
            expand_values=expand_values,
            output=self.product(attention + "o_proj.weight"),
            indexer=self.indexer(indexer) if full else None,
            mlp=self.moe(prefix + "mlp.") if sparse else self.mlp(prefix + "mlp."),
        )

    def from_hidden(self, prefix: str, full: bool) -> Tensor:
        """Return what takes the hidden state to query latent, key latent and key (, index key and head weights)."""
        rank, turning = self.config.kv_lora_rank, self.pairs
        keys = self.factor(prefix + "kv_a_proj_with_mqa.weight")
        parts = [self.factor(prefix + "q_a_proj.weight"), keys[:rank], keys[rank:][turning]]
        if full:
            index_keys = self.factor(prefix + "indexer.wk.weight")
            parts += [self.turned(index_keys), self.factor(prefix + "indexer.weights_proj.weight")]
        return torch.cat(parts).t().contiguous()

    def from_query(self, prefix: str, full: bool) -> Tensor:
        """Return what takes the query latent to queries (and index queries), the rotated parts together."""
        config, rank = self.config, self.config.q_lora_rank
        queries = self.factor(prefix + "q_b_proj.weight").view(config.num_heads, config.qk_head_dim, rank)
        parts = [queries[:, : config.qk_nope_head_dim], queries[:, config.qk_nope_head_dim :][:, self.pairs]]
        if full:
            index = self.factor(prefix + "indexer.wq_b.weight").view(config.index_n_heads, config.index_head_dim, rank)
            parts += [index[:, self.pairs], index[:, len(self.pairs) :]]
        return torch.cat([part.reshape(-1, rank) for part in parts]).t().contiguous()

    def turned(self, values: Tensor) -> Tensor:
        """Return an index key's rows or numbers with the pairs of the rotated part, which comes first, apart."""
        return torch.cat([values[self.pairs], values[len(self.pairs) :]])

    def latent_products(self, name: str) -> tuple[Tensor, Tensor]:
        """Return kv_b_proj as keys [H, nope, C] and values [H, C, v]; its rows are grouped by head, keys first."""
        config = self.config
        heads, nope, rank = config.num_heads, config.qk_nope_head_dim, config.kv_lora_rank
        per_head = self.factor(name).view(heads, nope + config.v_head_dim, rank)
        return per_head[:, :nope].contiguous(), per_head[:, nope:].transpose(1, 2).contiguous()

    def indexer(self, prefix: str) -> IndexerWeights:
        """Return the norm of a full layer's index keys."""
        weight, bias = self.tensor(prefix + "k_norm.weight"), self.tensor(prefix + "k_norm.bias")
        return IndexerWeights(self.turned(weight), self.turned(bias))

    def mlp(self, prefix: str) -> MlpWeights:
        """Return a gated MLP."""
        gate_up = self.product(prefix + "gate_proj.weight", prefix + "up_proj.weight")
        return MlpWeights(gate_up, self.product(prefix + "down_proj.weight"))

    def moe(self, prefix: str) -> MoeWeights:
        """Return router and shared expert of a sparse layer."""
        router = self.tensor(prefix + "gate.weight", torch.float32).t().contiguous()
        bias = self.tensor(prefix + "gate.e_score_correction_bias", torch.float32)
        return MoeWeights(router, bias, self.mlp(prefix + "shared_experts."))

    def mtp(self) -> MtpWeights:
        """Return the MTP layer."""
        prefix = names.layer_prefix(self.config.num_layers)
        return MtpWeights(
            layer=self.layer(prefix, sparse=True, full=True),
            combine=self.product(prefix + "eh_proj.weight"),
            embedding_norm=self.tensor(prefix + "enorm.weight"),
            hidden_norm=self.tensor(prefix + "hnorm.weight"),
            head_norm=self.tensor(prefix + "shared_head.norm.weight"),
        )

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Return one tensor as it is named."""
        return self.checkpoint.read(name, self.shapes[name], dtype or self.dtype).to(self.device)

    def factor(self, name: str) -> Tensor:
        """Return one tensor that rows are multiplied by."""
        return self.tensor(name, torch.bfloat16 if self.widens and self.checkpoint.is_bfloat16(name) else self.dtype)

    def product(self, *parts: str) -> Tensor:
        """Return weights that take the same input side by side, [in, out of all parts]."""
        return torch.cat([self.factor(name) for name in parts]).t().contiguous()
