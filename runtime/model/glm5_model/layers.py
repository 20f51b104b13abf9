"""What a layer does but its routed experts, step by step; `native_layers` has compiled steps."""

from torch import Tensor

from glm5_model.config import ModelConfig
from glm5_model.feed_forward import route
from glm5_model.kernels import Kernels
from glm5_model.layer_attention import Selection, Step, layer_attention, write_cache
from glm5_model.layout import Layout
from glm5_model.weights import AttentionWeights, MlpWeights, MoeWeights


class Layers:
    """The layers of one model, made of the kernels' products and functions."""

    def __init__(self, config: ModelConfig, weights: AttentionWeights, kernels: Kernels) -> None:
        """Compute with `weights`, which must be on the kernels' device and of their dtype."""
        self._config, self._weights, self._kernels = config, weights.layers, kernels

    def prepared(self, layout: Layout, turn: tuple[Tensor, Tensor]) -> object:
        """Return what all layers of a pass need of it in another form, `Step.compiled`."""
        return None

    def attention(self, step: Step, index: int, hidden: Tensor, selection: Selection) -> tuple[Tensor, Selection]:
        """Return hidden [M, hidden] after the attention of layer `index`, and the selection for the layers after it."""
        layer = self._weights[index]
        normed = self._kernels.rms_norm(hidden, layer.input_norm, self._config.rms_norm_eps)
        mixed, selection = layer_attention(step, index, normed, layer, selection)
        return hidden + mixed, selection

    def write(self, step: Step, index: int, hidden: Tensor) -> None:
        """Write the cache entries of the rows `hidden` [M, hidden] of layer `index`."""
        layer = self._weights[index]
        write_cache(step, index, self._kernels.rms_norm(hidden, layer.input_norm, self._config.rms_norm_eps), layer)

    def normed(self, index: int, hidden: Tensor) -> Tensor:
        """Return the rows before the MLP of layer `index`, [M, hidden]."""
        return self._kernels.rms_norm(hidden, self._weights[index].post_norm, self._config.rms_norm_eps)

    def route(self, index: int, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return of sparse layer `index` normed rows [M, hidden], expert ids [M, k] int64 and gates [M, k] float32."""
        normed, moe = self.normed(index, hidden), self._weights[index].mlp
        assert isinstance(moe, MoeWeights)
        return normed, *route(normed, moe, self._config, self._kernels)

    def mlp(self, index: int, normed: Tensor) -> Tensor:
        """Return the MLP of a dense layer or the shared expert of a sparse one, [M, hidden]."""
        weights = self._weights[index].mlp
        weights = weights if isinstance(weights, MlpWeights) else weights.shared
        return self._kernels.mlp(normed, weights.gate_up, weights.down)
