"""Write an HTML page that computes with the model of a run: drawings, Gibbs steps, imputed values."""

from dbn.cli.commands import Command
from dbn.config.dream import DreamConfig


def main(config: DreamConfig) -> None:
    """Write the page, and say where it is and how large."""
    from dbn.dream.write import in_words, write_page
    from dbn.storage.files import check_writable

    if config.output is not None:
        check_writable(config.output)
    path = write_page(config)
    print(f"The page is in {path} ({in_words(path.stat().st_size)}).")


COMMAND = Command(main, DreamConfig, __doc__)
