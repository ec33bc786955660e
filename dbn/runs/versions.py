"""Versions of the software that made a run."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path


def versions() -> dict[str, str | None]:
    """Packages, Python, platform and the commit of a checkout of dbn; None for what is not known."""
    packages = {"dbn": "torch-dbn", "torch": "torch", "torchvision": "torchvision"}
    return {
        **{name: version_of(package) for name, package in packages.items()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _git_commit(Path(__file__).resolve().parents[2]),
    }


def version_of(package: str) -> str | None:
    """Of an installed package; None for one that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit(root: Path) -> str | None:
    """The commit of a checkout of dbn, `-dirty` behind it when files were changed."""
    if not (root / ".git").exists():  # installed: a repository further up would be someone else's
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
