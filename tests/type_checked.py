"""What a type checker says of a page of calls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import neurodyn as nd


def check_flagged(text: str, folder: Path) -> None:
    """Pyright finds fault with the lines that end in ``# wrong``, and with no others."""
    pytest.importorskip("pyright")
    page, root = folder / "page.py", Path(nd.__file__).parents[1]
    page.write_text(text)
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(root)], "reportUnusedExpression": False}))
    command = [sys.executable, "-m", "pyright", "-p", str(folder), "--pythonpath", sys.executable, "--outputjson"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=1200)
    if not result.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {result.stderr[-200:]}")
    found = {item["range"]["start"]["line"] for item in json.loads(result.stdout)["generalDiagnostics"]}
    assert found == {i for i, line in enumerate(text.split("\n")) if line.endswith("# wrong")}, result.stdout
