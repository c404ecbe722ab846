"""The plots that README.md and docs/results.md show, from the figures in benchmarks/results into docs/pictures/results.

python benchmarks/draw.py
"""

from __future__ import annotations

import argparse
import re

from shared import plots
from shared.harness import RESULTS, ROOT, figure, read_result

PAGES, PICTURES = (ROOT / "README.md", ROOT / "docs" / "results.md"), ROOT / "docs" / "pictures" / "results"


def shown() -> list[str]:
    """The names of the plots that the pages show."""
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    return sorted(set(re.findall(r"pictures/results/(.+)\.png\)", texts)))


def plot_of(name: str) -> plots.Plot:
    """Make the plot of this name from its JSON file."""
    if name.startswith("experiment_"):
        file = max((path.stem for path in RESULTS.glob("experiment_*.json") if name.startswith(path.stem)), key=len)
        data, _, axis = name.removeprefix(f"{file}_").rpartition("_")
        result = read_result(file)
        return plots.settings(result["curves"][data], axis, result["question"], data)
    result = read_result(name)
    if name.startswith("delay_"):
        return plots.delays(result["curves"], name.removeprefix("delay_"))
    if name.startswith("retrieval_"):
        return plots.retrieved(result["runs"], name.removeprefix("retrieval_"))
    return plots.times(result["curves"], name.removeprefix("time_to_accuracy_"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name in shown():
        plot = plot_of(name)
        figure(plot.draw, name, PICTURES, **plot.axes)


if __name__ == "__main__":
    main()
