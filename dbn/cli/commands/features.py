"""Write features, reconstructions, free energies or log-likelihoods of examples, row by row."""

from dbn.cli.commands import Command
from dbn.config.inference import FeaturesConfig


def main(config: FeaturesConfig) -> None:
    """Read the examples, write one row for each, say what must be known of the figures."""
    from functools import partial

    from dbn.data.readers import read_table
    from dbn.errors import InputError
    from dbn.evaluation.external_rbm import read_model
    from dbn.evaluation.rows import values_of
    from dbn.storage.files import check_writable
    from dbn.storage.rows import write_rows

    stack, from_run = read_model(config.run), config.run.is_dir()
    table = read_table(config.data, kinds=stack.scaling.kinds, needs_mark=False, **config.reading())
    x, columns = table.train.x, table.columns
    check_writable(config.output)
    found = values_of(
        stack, x, config.write, config.likelihood, config.layer,
        from_run=from_run, name=str(config.data), columns=columns, table=table.table,
        where=partial(table.train.where, name=str(config.data)),
    )  # fmt: skip
    arrays = {name: values.numpy() for name, values in found.values.items()}
    if config.output.suffix.lower() == ".npy" and len(arrays) > 1:
        raise InputError(
            f"--output {config.output} holds one array, but here are {', '.join(arrays)}: name a .npz file"
        )
    write_rows(config.output, arrays)
    print(*found.notes, f"{', '.join(arrays)} of {len(x)} examples: {config.output}", sep="\n")


COMMAND = Command(main, FeaturesConfig, __doc__)
