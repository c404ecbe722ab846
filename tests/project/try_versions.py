"""Run the tests under other releases of Python and NumPy: each in a virtual environment of its own.

    python tests/project/try_versions.py --python python3.12 --python python3.13 --numpy 2.0.0 --out versions.json

Each interpreter is tried with the newest NumPy, and the one that runs this with each release given by ``--numpy``.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ["threadpoolctl", "tqdm", "pytest", "hypothesis"]
EXTRAS = ["scipy", "scikit-learn", "pandas", "matplotlib"]


def attempt(python, numpy, folder, arguments):
    """Install, run the tests, and say how they ended."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = str(Path(folder, "bin", "python"))
    install = [own, "-m", "pip", "install", "-qq", "--only-binary", ":all:", f"numpy{numpy}"]
    subprocess.run([*install, *NEEDED, *EXTRAS], check=True)
    versions = "import sys, numpy; print(sys.version.split()[0], numpy.__version__)"
    found = subprocess.run([own, "-c", versions], capture_output=True, text=True, check=True).stdout.split()
    command = [own, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    print(done.stdout[-3000:], flush=True)
    counts = re.sub(r" in [\d.]+s.*", "", done.stdout.strip().splitlines()[-1]).strip("= ")
    return {"python": found[0], "numpy": found[1], "passed": done.returncode == 0, "tests": counts}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], help="an interpreter; may be given more than once")
    parser.add_argument("--numpy", action="append", default=[], help="a release, such as 2.0.0; may be given often")
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("rest", nargs="*", help="further arguments of pytest")
    options = parser.parse_args()
    wanted = [(python, "") for python in options.python] + [(sys.executable, f"=={n}") for n in options.numpy]
    results = []
    for python, numpy in wanted:
        with tempfile.TemporaryDirectory() as folder:
            results.append(attempt(python, numpy, folder, options.rest))
        print(json.dumps(results[-1]), flush=True)
    if options.out:
        facts = {"date": datetime.date.today().isoformat(), "results": results}
        Path(options.out).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0 if all(result["passed"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
