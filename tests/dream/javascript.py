"""The JavaScript of a page, run by node where there is one."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node, which runs the page's JavaScript, is not installed")
LIBRARY = "\n".join(files("dbn.dream").joinpath(name).read_text("utf-8") for name in ("model.js", "chains.js"))


def model_of(page: Path) -> dict[str, Any]:
    """The data in a page."""
    found = re.search(
        r'<script type="application/json" id="model">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def run(code: str, **given: Any) -> Any:
    """What `code`, a function body that returns JSON data, gives with the page's functions and the names given."""
    assert NODE is not None
    names = ", ".join(given)
    program = f"{LIBRARY}\nconst plain = (key, x) => ArrayBuffer.isView(x) ? Array.from(x) : x;\n"
    program += "const given = JSON.parse(require('fs').readFileSync(0));\n"
    program += f"const found = (({{ {names} }}) => {{ {code} }})(given);\nconsole.log(JSON.stringify(found, plain));\n"
    command = [NODE, "-e", program]
    ended = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, timeout=300, encoding="utf-8"
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
