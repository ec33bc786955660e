"""Deep autoencoders: a stack's layers upwards to a code, and their transposes back to the visible units."""

from collections.abc import Callable
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from dbn.errors import InputError
from dbn.models.mlp import activation_module

LOSSES: dict[str, Callable[..., Tensor]] = {"sigmoid": F.binary_cross_entropy_with_logits, "identity": F.mse_loss}
"""By activation of the last layer, of its outputs before it: cross-entropy, and squared error."""


@final
class Autoencoder(nn.Module):
    """x (B, V) ↦ code (B, C) ↦ reconstruction (B, V); made by `DBN.to_autoencoder`, whose scaled values it takes.

    `encoder` and `decoder` are chains of linear layers and activations, as many up as down. The code is linear where
    the stack's top units are Gaussian, as Hinton & Salakhutdinov (2006), "Reducing the dimensionality of data with
    neural networks", have it.

    network: all layers without the last activation; output: that activation, or "identity".

    >>> import torch
    >>> from dbn.models import DBN, RBM, Bernoulli, Gaussian
    >>> autoencoder = DBN([RBM(Bernoulli(9), Bernoulli(5)), RBM(Bernoulli(5), Gaussian(2))]).to_autoencoder()
    >>> autoencoder.encode(torch.zeros(3, 9)).shape, autoencoder(torch.zeros(3, 9)).shape
    (torch.Size([3, 2]), torch.Size([3, 9]))
    """

    def __init__(self, network: nn.Sequential, output: str) -> None:
        super().__init__()
        middle = code_place(network)
        self.encoder = nn.Sequential(*list(network)[:middle])
        self.decoder = nn.Sequential(*list(network)[middle:])
        if output != "identity":
            self.decoder.append(activation_module(output))

    def encode(self, x: Tensor) -> Tensor:
        """The codes, (B, V) -> (B, C)."""
        codes: Tensor = self.encoder(x)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """The reconstructions, (B, C) -> (B, V)."""
        reconstructions: Tensor = self.decoder(codes)
        return reconstructions

    def forward(self, x: Tensor) -> Tensor:
        """`decode(encode(x))`."""
        return self.decode(self.encode(x))


def code_place(network: nn.Sequential) -> int:
    """The place of the first layer after the code, of a network with as many linear layers up as down."""
    places = [place for place, module in enumerate(network) if isinstance(module, nn.Linear)]
    return places[len(places) // 2]


def reconstruction_loss(outputs: Tensor, x: Tensor, activation: str) -> Tensor:
    """Σ over rows and units, for outputs (B, V) before their activation; the mean over rows is in nats for "sigmoid".

        −x log σ(a) − (1 − x) log(1 − σ(a)) for "sigmoid",    (x − a)² for "identity"

    InputError for another activation.
    """
    if activation not in LOSSES:
        raise InputError(f"an autoencoder learns with {' or '.join(LOSSES)} outputs, not {activation}")
    return LOSSES[activation](outputs, x, reduction="sum")
