"""The gradient of the log-likelihood, in closed form.

For any parameter it is the mean of its statistic under data minus under the model, the hidden side in
expectation. With negative samples in place of the model it equals, up to sign, the gradient of
F(data).mean() − F(negatives).mean() at given negatives. That difference is no loss: its value says nothing.
"""

import torch
from torch import Tensor

from dbn.rbm import RBM
from dbn.units import Units


@torch.no_grad()
def set_gradient(rbm: RBM, data: Tensor, negatives: Tensor, hidden_field: Tensor | None = None) -> None:
    """Write into `.grad` of every parameter the direction that an optimiser descends.

    ∂/∂θ [mean_data F − mean_negatives F]: for the weight −⟨E[h|v] vᵀ⟩_data + ⟨E[h|v] vᵀ⟩_negatives.

    data: (B, V); negatives: (N, V); hidden_field: W v of the data if the caller has it, (B, H).
    """
    data_field = rbm.hidden_field(data) if hidden_field is None else hidden_field
    data_hidden = rbm.hidden.expected_statistics(data_field)
    negative_hidden = rbm.hidden.expected_statistics(rbm.hidden_field(negatives))

    # The statistic of a bias is x itself, so its expectation is E[h | v]. Both products go into one buffer.
    gradient = _buffer(rbm.weight)
    torch.addmm(gradient, negative_hidden["bias"].T, negatives, beta=0, alpha=1 / len(negatives), out=gradient)
    torch.addmm(gradient, data_hidden["bias"].T, data, alpha=-1 / len(data), out=gradient)

    _set_unit_gradient(rbm.hidden, data_hidden, negative_hidden)
    _set_unit_gradient(rbm.visible, rbm.visible.statistics(data), rbm.visible.statistics(negatives))


def _set_unit_gradient(units: Units, data: dict[str, Tensor], negatives: dict[str, Tensor]) -> None:
    difference = {name: negatives[name].mean(0) - data[name].mean(0) for name in data}
    for name, gradient in units.parameter_gradient(difference).items():
        _buffer(units.get_parameter(name)).copy_(gradient)


def _buffer(parameter: torch.nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
