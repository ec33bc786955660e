"""Runs that nobody interrupted, each made once."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import Ended, Launcher
from same import KINDS


@dataclass
class GlobalBatch:
    """Uninterrupted runs, each made when it is first asked for."""

    folder: Path
    launcher: Launcher
    ended: dict[Any, Ended] = field(default_factory=dict)

    def run(self, kind: str) -> tuple[Path, Ended]:
        """The run folder, and how the process ended, which wrote a checkpoint after every step."""
        where = self.folder / kind
        if kind not in self.ended:
            self.copy(where)
            script, words = KINDS[kind]
            self.ended[kind] = self.launcher.run(script, words, where, checkpoint_seconds=-1.0)
            assert self.ended[kind].status == 0, self.ended[kind].err
        return where / "run", self.ended[kind]

    def copy(self, folder: Path) -> Path:
        """A new folder with what a run needs."""
        shutil.copytree(self.folder / "prepared", folder, dirs_exist_ok=True)
        return folder
