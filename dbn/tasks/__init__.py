"""What a network is trained to do: how its targets are read, what its outputs mean, its loss and its scores."""

from typing import TYPE_CHECKING

from dbn.registry import Registry, lazy_exports

if TYPE_CHECKING:
    from dbn.tasks.base import Task as Task
    from dbn.tasks.base import task_of as task_of

TASKS: "Registry[type[Task]]" = Registry(
    "task",
    {
        "classify": "dbn.tasks.classify:Classify",
        "regress": "dbn.tasks.regress:Regress",
        "multilabel": "dbn.tasks.multilabel:Multilabel",
        "autoencode": "dbn.tasks.autoencode:Autoencode",
    },
)
"""Every task, a subclass of `Task`."""

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
