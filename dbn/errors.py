"""The one kind of error that the user can put right."""


class InputError(ValueError):
    """Something given to dbn cannot be used: data, an option, a file.

    The message is one sentence that says what was wrong, where, and what to do. Scripts print it and exit
    with status 2.
    """
