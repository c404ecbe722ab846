"""Programs under mpiexec, where there is one: in the environment of this Python, or elsewhere on the path."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slide_fast

SUPPORT = Path(__file__).parent
PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
MPIEXEC = shutil.which("mpiexec", path=PLACES) if importlib.util.find_spec("mpi4py") else None
SECONDS = 240
OPEN_MPI = {  # it refuses root, whom containers have, and more ranks than CPUs
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}

needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="needs MPI: pip install mpi4py mpich")


def environment(*first):
    """That of a child with the packages of this process, which may be copies; folders to look into before them."""
    homes = [*first, SUPPORT, Path(slide_fast.__file__).parents[1], SUPPORT.parents[1]]
    path = os.pathsep.join([*map(str, homes), os.environ.get("PYTHONPATH", "")])
    return os.environ | OPEN_MPI | {"PYTHONPATH": path}


def python(*arguments, ranks=None, first=None):
    """Run Python with these arguments, on so many ranks under mpiexec; what it said and its exit code."""
    places = [] if first is None else [first]
    command = [sys.executable, *map(str, arguments)]
    before = [] if ranks is None else [MPIEXEC, "-n", str(ranks)]
    return subprocess.run(
        [*before, *command], env=environment(*places), capture_output=True, text=True, timeout=SECONDS
    )
