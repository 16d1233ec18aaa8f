"""Running a line of JavaScript against the npm packages that bin/test put into .cache/node."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.needs import missing

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "node"


def run_node(script: str, **values: Any) -> Any:
    """What `script` writes to standard output as JSON; `values` are its global `input`."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        missing("node and npm are not installed, or bin/test has not fetched the npm packages")
    program = f"const input = {json.dumps(values)};\n{script}"
    done = subprocess.run(
        [str(node), "--input-type=commonjs", "-e", program],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"node: {done.stderr}")
    return json.loads(done.stdout)
