"""The gallery of the documentation: each script runs as a reader would run it; what it prints and draws is kept.

python benchmarks/gallery.py                  all, one after another: about two minutes on two cores
python benchmarks/gallery.py tags_of_texts    one

The page `docs/gallery.md` shows what is printed word for word; pictures go to docs/pictures/gallery.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from shared.harness import ROOT, require_agreement, write_result

SCRIPTS = ROOT / "docs" / "gallery"
PICTURES = ROOT / "docs" / "pictures" / "gallery"


def printed(script: Path, picture: Path) -> list[str]:
    """Run a script in an empty folder, let it draw its picture, and return the lines that it prints."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), str(picture)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return done.stdout.splitlines()


def main() -> None:
    names = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"the gallery has no {unknown[0]}, only {', '.join(names)}")
    require_agreement()
    for name in options.names or names:
        script = SCRIPTS / f"{name}.py"
        output = printed(script, PICTURES / f"{name}.png")
        print("\n".join(output), flush=True)
        result: dict[str, Any] = {"script": script.relative_to(ROOT).as_posix(), "output": output}
        write_result(f"gallery_{name}", result)


if __name__ == "__main__":
    main()
