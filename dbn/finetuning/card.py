"""The model card of a comparison of initializations."""

from collections.abc import Mapping, Sequence
from typing import Any

from dbn.errors import listed
from dbn.finetuning.report import cells, heading, notes, sentence, stuck_sentence
from dbn.runs.card import escaped, table, write_card
from dbn.runs.folder import RunFolder
from dbn.tasks import TASKS


def write_comparison_card(run: RunFolder, sizes: Sequence[int], found: Mapping[str, Any]) -> None:
    """README.md for what result.json is to hold, of networks of these sizes.

    The seconds are left out, so that a repeated run gives the same.
    """
    task = TASKS[found.get("task", "classify")]
    names = found.get("classes") or found.get("targets", [])
    kind = "classes" if "classes" in found else "targets"
    layers = " – ".join(f"{size:,}" for size in sizes)
    headers, rows = cells(found)
    diverged = [
        f"{name} diverged under {arm['diverged']} seeds." for name, arm in found["arms"].items() if arm["diverged"]
    ]
    said = [*notes(found), *diverged, *filter(None, [stuck_sentence(found), sentence(found)])]
    picture, _, shown = task.picture.partition(", ")
    drawn = [f"![{shown}]({picture})"] if picture and (run.path / picture).is_file() else []
    sections = {
        "Model": f"Networks {layers}, alike but for their initial weights, trained for the task {task.name} with "
        f"{len(names):,} {kind}: {escaped(listed(names))}.",
        "Data": f"{escaped(heading(found))}. Fingerprint of values and splits: `{run.data}`.",
        "Errors": "\n\n".join([table(headers[:-1], [row[:-1] for row in rows]), *map(escaped, said), *drawn]),
    }
    write_card(run, f"Initializations compared on {found['dataset']}", sections)
