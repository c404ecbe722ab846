"""Draw the pictures of the documentation: ``python docs/pictures/draw.py`` writes the SVG files beside this one."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from slide_ref.common.lsh_config import LshConfig
from slide_ref.hash_tables import tables_from_addresses

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY, DARK = "#0072B2", "#D55E00", "#009E73", "#DDDDDD", "#333333"
STYLE = {"font.family": "DejaVu Sans", "font.size": 11, "svg.hashsalt": "slide", "svg.fonttype": "path"}


def new(width, height):
    """An empty picture whose units are tenths of an inch or so."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10 * width), ylim=(0, 10 * height))
    axes.axis("off")
    return figure, axes


def box(axes, x, y, width, height, text, colour=GREY, **options):
    style = {"boxstyle": "round,pad=0,rounding_size=0.8", "facecolor": colour, "edgecolor": "none", "alpha": 0.9}
    axes.add_patch(FancyBboxPatch((x, y), width, height, **style))
    white = colour in (BLUE, ORANGE, GREEN)
    axes.text(
        x + width / 2, y + height / 2, text, ha="center", va="center", color="white" if white else DARK, **options
    )


def arrow(axes, start, end, colour=DARK, **options):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=colour, **options))


def step():
    """From a sample to an update."""
    figure, axes = new(9, 4.2)
    box(axes, 2, 30, 15, 8, "sample\n(few features)", BLUE)
    box(axes, 23, 30, 15, 8, "hidden layer\n128 values", BLUE)
    box(axes, 44, 30, 16, 8, "L codes\nof K digits", GREEN)
    box(axes, 66, 30, 22, 8, "L buckets,\none of each table", GREEN)
    box(axes, 66, 16, 18, 8, "active set:\nfound + true labels", ORANGE, fontsize=10)
    box(axes, 38, 16, 22, 8, "logits and softmax\nover the active set", ORANGE)
    box(axes, 10, 16, 22, 8, "gradients of\nthe touched rows", ORANGE)
    box(axes, 10, 3, 22, 8, "lazy Adam on\nthese rows alone")
    box(axes, 47, 3, 41, 8, "now and then: hash all neurons again")
    for start, end in (((17, 34), (23, 34)), ((38, 34), (44, 34)), ((60, 34), (66, 34)), ((75, 30), (75, 24))):
        arrow(axes, start, end)
    for start, end in (((66, 20), (60, 20)), ((38, 20), (32, 20)), ((21, 16), (21, 11)), ((32, 7), (47, 7))):
        arrow(axes, start, end)
    arrow(axes, (86, 11), (86, 30), GREEN, linestyle="--")
    return figure


def table():
    """What one small table holds, made by the reference itself."""
    lsh = LshConfig(K=3, L=1, bucket_size=3)
    addresses = np.random.default_rng(4).integers(0, 8, (1, 20))
    buckets = tables_from_addresses(addresses, lsh, seed=0, layer=1, rebuild=0).tables[0]
    figure, axes = new(9, 4.6)
    axes.text(3, 42, "code", weight="bold", color=DARK)
    axes.text(14, 42, "bucket: the last 3 neurons inserted", weight="bold", color=DARK)
    axes.text(56, 42, "pushed out", weight="bold", color=DARK)
    for address in range(8):
        y = 36 - 5 * address
        held = buckets.get(address, [])
        everyone = np.flatnonzero(addresses[0] == address).tolist()
        box(axes, 3, y, 8, 4, f"{address:03b}", GREEN, family="DejaVu Sans Mono")
        for place in range(lsh.bucket_size):
            axes.add_patch(Rectangle((14 + 13 * place, y), 12, 4, fill=False, edgecolor="#BBBBBB"))
        for place, neuron in enumerate(held):
            box(axes, 14 + 13 * place, y, 12, 4, f"neuron {neuron}", BLUE, fontsize=10)
        lost = [str(neuron) for neuron in everyone if neuron not in held]
        axes.text(56, y + 2, ", ".join(lost) or "–", va="center", color=ORANGE if lost else "#999999")
    return figure


def memory():
    """How workers share memory."""
    figure, axes = new(9, 4.4)
    box(axes, 3, 32, 84, 9, "parent: hands out ranges of steps, starts rebuilds, notices deaths; computes nothing")
    for i in range(3):
        x = 3 + 30 * i
        box(axes, x, 17, 24, 9, f"worker {i + 1}\nno lock, no copy", BLUE)
        arrow(axes, (x + 9, 32), (x + 9, 26))
        arrow(axes, (x + 15, 26), (x + 15, 32))
        arrow(axes, (x + 12, 17), (x + 12, 11.5), ORANGE, shrinkA=0)
        arrow(axes, (x + 12, 11.5), (x + 12, 17), ORANGE, shrinkA=0)
    axes.text(19.5, 28.5, "step numbers, sums", fontsize=9.5, color=DARK)
    box(axes, 3, 2, 84, 9, "one shared memory: weights, moments, tables, samples", ORANGE)
    return figure


def main():
    with matplotlib.rc_context(STYLE):
        for draw in (step, table, memory):
            draw().savefig(HERE / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
