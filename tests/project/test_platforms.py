"""The ways of other systems, tried on this one: no memfd as on macOS, shared memory with a name as on Windows.

Workers are fresh interpreters on every system, so the start method needs no forcing.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = ["parallel/test_pool.py", "engine/test_hogwild.py", "parallel/test_shared_arrays.py", "engine/test_faults.py"]
# Slow, and alike everywhere.
LEFT_OUT = ("kills_at_random_moments", "stopped_worker", "dies_in_any_place", "interactive")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or "SLIDE_ELSEWHERE" in os.environ, reason="plays other systems on Linux"
)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["macos", "windows"])
def test_pool_and_shared_memory_as_on_another_system(system, tmp_path):
    path = [str(TESTS / "support" / "elsewhere"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"SLIDE_ELSEWHERE": system, "SLIDE_TAGS": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    command += ["-k", " and ".join(f"not {name}" for name in LEFT_OUT)]
    done = subprocess.run([*command, *(str(TESTS / file) for file in FILES)], cwd=TESTS.parent, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
