"""The README says what is true: its Python runs, its commands exist, its paths are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_python_blocks_run_as_printed(tmp_path):
    pytest.importorskip("scipy")
    program = "\n".join(text for language, text in BLOCKS if language == "python")
    assert program
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_shell_blocks_name_commands_that_exist():
    from slide_fast.cli import main

    commands = re.findall(r"slide (\w+)", "".join(text for language, text in BLOCKS if language == "sh"))
    assert "demo" in commands
    for command in commands:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT):
        assert (README.parent / target).exists(), target
