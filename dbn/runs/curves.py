"""What the curves of a run mean, and what is good: for TensorBoard's cards and descriptions."""

from collections.abc import Iterable, Mapping

from dbn.text_tables import markdown_table

TIMES = ("seconds", "measuring_seconds", "examples_per_second")
"""Names that TensorBoard shows last, under timing/."""

PRETRAINING: Mapping[str, tuple[str, str]] = {
    "reconstruction_error": (
        "squared error of the reconstruction, summed over visible units, mean over examples",
        "falls; by itself it does not prove a better model",
    ),
    "kl": ("KL divergence of the data from their reconstruction, nats an example", "falls, then levels off"),
    "free_energy_gap": (
        "mean free energy of validation data minus that of training data, nats",
        "stays near 0; a growing gap with a rising validation KL is overfitting: train for fewer epochs",
    ),
    "hidden_activity": ("mean activity of the hidden units", "settles, neither near its least nor its greatest value"),
    "hidden_off": (
        "share of hidden units whose mean activity is below 0.01",
        "small; where most are off, lower the learning rate or the momentum",
    ),
    "hidden_on": ("share of hidden units whose mean activity is above 0.99", "small; else set --sparsity-target"),
    "update_ratio": (
        "mean absolute change of the weights in the last update over their mean absolute size",
        "about 0.001; above 0.03 lower the learning rate",
    ),
    "learning_rate": ("learning rate of the last update", "as asked for"),
    "chain_autocorrelation": (
        "correlation of the chains with their states at the last measurement",
        "near 0; above 0.95 they hardly move: more --gibbs-steps, or a lower learning rate",
    ),
    "swap_rate": ("share of accepted swaps of neighboring temperatures", "0.2 or more"),
    "swap_rate_lowest": (
        "the same for the two temperatures that swap least",
        "0.1 or more; below that raise --temperatures",
    ),
    "log_z": ("log of the partition function, nats, by quick annealed importance sampling", "neither high nor low"),
    "log_z_sample_size": ("effective number of the 100 chains of that estimate", "most of them; few make it doubtful"),
    "log_likelihood": ("mean log p of an example, nats, with that log Z", "rises"),
    "pseudo_likelihood": ("sum of log p of each unit given all others, nats, mean over examples", "rises"),
    "error": ("misclassified examples, %", "falls"),
    "log_loss": ("mean −log p of the true class, nats", "falls"),
    "generative_error": (
        "squared error of a layer's states as the generative weights bring them back from the layer above; "
        "`generative_error_1` is of the data, and so on",
        "does not rise: the weights of the two ways then fit each other",
    ),
    "recognition_error": (
        "the same of states of the down-pass, as the recognition weights bring them back from the layer below",
        "does not rise",
    ),
}
"""Name of a curve of pre-training: what it is, and what is good. Those of validation data begin with valid_."""

FINETUNING: Mapping[str, tuple[str, str]] = {
    "train_loss": ("loss that training minimizes, mean over the epoch's training examples", "falls"),
    "valid_loss": ("the same on validation examples", "falls; a rise while train_loss falls is overfitting"),
    "valid_error": (
        "error of validation examples, which selects epoch and learning rate: % of classes, else as the table has it",
        "falls; its lowest point is the epoch that is tested",
    ),
    "pseudo_labels": ("rows that the network labeled itself for the epoch", "as `--pseudo-labels` asks"),
    "z_mean": ("mean of a layer's pre-activations", "near 0"),
    "z_std": ("spread of a layer's pre-activations", "alike in all layers"),
    "example_std": ("spread of pre-activations about each unit's own mean: what tells examples apart", "not near 0"),
    "h_mean": ("mean of a layer's activations", "within their range"),
    "h_std": ("spread of a layer's activations", "alike in all layers"),
    "saturated": ("share of activations with hardly any slope", "small; of relu units half"),
    "dead": ("share of units that are saturated on every example", "0"),
    "gradient_std": ("spread of the loss's gradient by pre-activations, nats", "alike in all layers"),
    "weight_gradient_std": ("spread of the loss's gradient by weights, nats", "alike in all layers"),
    "singular_mean": ("mean singular value of the Jacobian from the layer below", "near 1"),
    "singular_std": ("spread of those singular values", "small"),
    "singular_max": ("greatest of those singular values", "not far above 1"),
}
"""As `PRETRAINING`, of fine-tuning; those with a layer are signals."""

TIMING: Mapping[str, tuple[str, str]] = {
    "seconds": ("seconds of training in the epoch", ""),
    "measuring_seconds": ("seconds of measuring and drawing after it", ""),
    "examples_per_second": ("training examples a second", ""),
}


def placed(tag: str) -> str:
    """The tag as events have it: times come last, since TensorBoard sorts tags."""
    return f"timing/{tag}" if tag.rpartition("/")[2] in TIMES and not tag.startswith("timing/") else tag


def description(tag: str) -> str:
    """What the curve of a tag means and what is good, in a sentence; empty where that is not known.

    >>> description("layer1/hidden_on")
    'Share of hidden units whose mean activity is above 0.99. Good: small; else set --sparsity-target.'
    """
    name = tag.rpartition("/")[2].rstrip("_0123456789")  # generative_error_1
    of_layer = tag.startswith(("layer", "timing/layer"))
    known = (PRETRAINING if of_layer else FINETUNING) | TIMING  # type: ignore[operator]
    what, good = known.get(name) or known.get(name.removeprefix("valid_"), ("", ""))
    if name not in known and what:
        what = f"of validation data: {what}"
    return f"{what[0].upper()}{what[1:]}.{f' Good: {good}.' if good else ''}" if what else ""


def card(curves: Mapping[str, tuple[str, str]], names: Iterable[str] | None = None) -> str:
    """A table of Markdown: curve, meaning, what is good; of those `names` alone where they are given."""
    rows = [(f"`{name}`", *curves[name]) for name in (curves if names is None else names)]
    return markdown_table(("curve", "what it is", "what is good"), rows)
