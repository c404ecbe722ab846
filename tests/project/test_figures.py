"""Pages show the figures of the files that they name: of what is measured again now and then."""

import json
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
README, PERFORMANCE, COMPARE, RESULTS_PAGE = "README.md", "docs/performance.md", "docs/compare.md", "docs/results.md"
PAPER = "docs/paper-figures.md"
SERVE, TEXT = "docs/how-to/serve.md", "docs/how-to/text.md"


def result(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def rows_of(name, key="contender"):
    return {row[key]: row for row in result(name)["rows"]}


def percent(row, key="precision_at_1"):
    value = row[key]
    return f"{100 * (value['median'] if isinstance(value, dict) else value):.1f}"


def best_after(row, form="{}, {:.0f} s"):
    return form.format(percent(row, "best_precision_at_1"), row["seconds_in_all"])


def time_to_accuracy_figures():
    """Rows of time to 0.9 of the best P@1, and what each contender ends with, after how long."""
    for name in ("acl_authors", "stdlib", "amazon-670k"):
        rows = rows_of(f"time_to_accuracy_{name}")
        ours, sampled = rows["slide_fast"], rows["PyTorch sampled, 0.003"]
        yield percent(ours, "best_precision_at_1"), (README, PERFORMANCE, COMPARE)
        yield f"{ours['sampled']:.1f} | {sampled['sampled']:.1f} | {sampled['sampled_times_ours']:.1f}", (PERFORMANCE,)
        yield f"{ours['sampled']:.1f} | {sampled['sampled']:.1f}", (COMPARE,)
        if name == "amazon-670k":
            continue
        dense, omikuji = rows["PyTorch dense, 0.003"], rows["omikuji"]
        yield f"{ours['dense']:.1f} | {dense['dense']:.0f} | {dense['dense_times_ours']:.0f}", (PERFORMANCE,)
        pages = (PERFORMANCE, COMPARE, RESULTS_PAGE) if name == "acl_authors" else (PERFORMANCE,)
        yield best_after(omikuji, "{} after {:.0f} s"), pages
        yield best_after(omikuji, "{} | {:.0f}"), (COMPARE,)
    papers, code = (rows_of(f"time_to_accuracy_{name}") for name in ("acl_authors", "stdlib"))
    ratios = (rows["PyTorch dense, 0.003"]["dense_times_ours"] for rows in (papers, code))
    yield "{:.0f} and {:.0f} times".format(*ratios), (COMPARE,)
    wide = papers["slide_fast, wide"]
    yield best_after(wide, "{} after {:.0f} s"), (COMPARE, RESULTS_PAGE)
    row = next(row for row in result("experiment_width")["rows"] if row["setting"] == "--preset wide")
    yield f"{100 * row['precision_at_1'][0]:.1f} after {row['seconds']:.0f} s", (RESULTS_PAGE,)


def throughput_figures():
    """Samples/s, their ratios, and memory, on the Amazon-670K shape."""
    (ours, sampled, dense), ratio = result("throughput_peers")["rows"], "first_over_this"
    for row in (ours, sampled):
        yield f"{row['samples_per_second']['median']:,.0f}", (PERFORMANCE, COMPARE)
    yield f"{sampled[ratio]['median']:.2f}", (PERFORMANCE,)
    yield f"{dense['samples_per_second']['median']:,.0f}", (PERFORMANCE,)
    yield f"{dense[ratio]['median']:.0f}", (PERFORMANCE, COMPARE)
    run = result("throughput_run")["rows"]
    for row in run:
        yield f"{row['samples_per_second']['median']:,.0f}", (PERFORMANCE,)
    yield f"{run[1][ratio]['median']:.2f}", (PERFORMANCE, RESULTS_PAGE)
    paper = result("throughput_paper")["rows"][0]["samples_per_second"]["median"]
    yield f"{paper:,.0f}", (PERFORMANCE, COMPARE)
    two = result("scaling_amazon-670k_2")["rows"][1]
    yield f"{two['ratio_to_first']['median']:.2f}", (PERFORMANCE, RESULTS_PAGE)
    yield f"{two['machine']['median']:.2f}", (PERFORMANCE,)
    *some, last = [percent(row) for row in result("scaling_amazon-670k_16")["rows"]]
    yield f"{', '.join(some)} and {last}", (RESULTS_PAGE,)
    memory = result("memory_amazon-670k")
    for n_bytes in (memory["bytes"]["beyond these"], memory["allowed_beyond"]):
        yield f"{n_bytes / 2**20:.0f}", (PERFORMANCE, RESULTS_PAGE)
    for key in ("slide train, peak", "PyTorch sampled softmax, peak"):
        yield f"{memory['bytes'][key] / 1e9:.2f}", (PERFORMANCE,)


def prediction_figures():
    """Times the speed of exact answers, by the index and by other libraries, and one row at a time."""
    gains, single = [], []
    for name in ("stdlib", "acl_authors", "amazon-670k", "wide"):
        rows, one_row = rows_of(f"prediction_{name}", "name"), result(f"prediction_{name}")["one_row"]
        one, both = one_row["one_cpu"], one_row["all_cpus"]
        gain = rows["index, recall 0.95"]["times_exact"]["median"]
        gains.append(gain)
        shown = f"{gain:.1f}" if gain < 20 else f"{gain:.0f}"
        yield f"{rows['index, recall 0.95']['candidates']:,} | {shown}", (PERFORMANCE,)
        yield f"{one['index']:.2f} | {one['exact']:.1f}, {both['exact']:.1f}", (PERFORMANCE,)
        single.append((f"{one['index']:.2f}", f"{one['exact']:.1f}"))
        peers = [f"{row['times_exact']['median']:.1f}" for key, row in rows.items() if not key.startswith("index")]
        yield ", ".join(peers), (PERFORMANCE,)
        yield " | ".join(peers), (COMPARE,)
    yield f"{min(gains):.0f} to {max(gains):.0f} times", (SERVE, "docs/how-to/http.md")
    for stdlib, acl, amazon, _ in zip(*single, strict=True):
        yield f"{stdlib}, {acl} and {amazon} ms", (SERVE,)
    yield f"{single[-1][0]} and {single[-1][1]} ms", (SERVE,)
    most = rows_of("prediction_amazon-670k", "name")["index, recall 0.99"]["times_exact"]["median"]
    yield f"{most:.1f} times as fast", (PERFORMANCE, SERVE)


def text_figures():
    for row in result("text_pipe")["rows"]:
        yield f"{row['texts_per_second']:,.0f}", (TEXT,)
    for row in result("text_vectorising")["rows"]:
        if row["name"] in ("slide, 2 workers", "TfidfVectorizer"):
            yield f"{row['megabytes_per_second']:.1f}", (TEXT,)
    rows = rows_of("text_accuracy", "name")
    wide, fasttext = rows["slide, words, wide"], rows["fastText, hs, rate 0.5, 15 epochs"]
    yield percent(wide), (README, COMPARE, TEXT, "docs/how-to/from-fasttext.md")
    yield percent(fasttext), (README, COMPARE, "docs/how-to/from-fasttext.md")
    for row in rows["slide, words"], wide:
        cells = f"{percent(row)} | {percent(row, 'precision_at_5')} | {row['seconds']:.0f}"
        yield cells, (TEXT, "docs/how-to/from-fasttext.md")


def compare_figures():
    """Cells of the tables of the page, in the order of their columns."""
    for path in RESULTS.glob("compare_*.json"):
        name, rows = path.stem, rows_of(path.stem)
        if name in ("compare_library_titles", "compare_bibtex"):
            for row in rows.values():
                yield (
                    " | ".join(percent(row, key) for key in ("precision_at_1", "precision_at_5", "psp_at_1")),
                    (COMPARE,),
                )
                seconds, speed, memory, model = (
                    row[key]["median"] for key in ("seconds", "rows_per_second", "peak_memory_bytes", "model_bytes")
                )
                yield f"{seconds:.1f} | {speed:,.0f} | {memory / 1e9:.2f} | {model / 1e6:.1f}", (COMPARE,)
        else:
            cells = [f"{percent(row)} | {percent(row, 'precision_at_5')}" for row in rows.values()]
            yield " | ".join(cells), (COMPARE,)
            yield " | ".join(f"{row['seconds']['median']:.1f}" for row in rows.values()), (COMPARE,)


def by_data(name):
    """Rows of an experiment by data and setting."""
    found = {}
    for row in result(f"experiment_{name}")["rows"]:
        found.setdefault(row["data"], {})[row["setting"]] = row
    return found


def mean(row, key="precision_at_1", scale=100):
    return f"{scale * statistics.mean(row[key]):.2f}"


def both(row):
    return f"{mean(row)} / {mean(row, 'precision_at_5')}"


def experiment_figures():
    """Rows of the tables that compare settings: best P@1, means over the seeds."""
    negatives, dense, unseen = by_data("negatives"), by_data("dense") | by_data("dense_large"), by_data("unseen")
    for data, rows in negatives.items():
        yield f"{both(rows['defaults'])} | {both(dense[data]['dense'])}", (RESULTS_PAGE,)
        yield f"{mean(rows['defaults'])} |", (COMPARE,)
        for row in rows.values() if data in ("acl_authors", "stdlib", "diginetica") else ():
            spread, reached = 100 * statistics.stdev(row["precision_at_1"]), statistics.mean(row["seconds_to_target"])
            cells = (
                mean(row),
                f"{spread:.2f}",
                f"{row['active_neurons']:,.0f}",
                f"{row['seconds']:.1f}",
                f"{reached:.1f}",
            )
            yield " | ".join(cells), (RESULTS_PAGE,)
    for rows in unseen.values():
        yield f"{mean(rows['defaults'])} | {mean(rows['dense'])}", (RESULTS_PAGE,)
    for name in ("recipe", "few_samples", "rates"):
        for rows in by_data(name).values():
            yield " | ".join(mean(row) for row in rows.values()), (RESULTS_PAGE,)
    workers = by_data("workers")
    for setting in workers["stdlib"]:
        own = [rows[setting] for rows in workers.values()]
        yield " | ".join(f"{mean(row)} | {row['seconds']:.1f}" for row in own), (RESULTS_PAGE,)
    for name in ("batch_size", "families", "strategies", "policies", "rebuilds"):
        rows_by_data = by_data(name)
        for setting in next(iter(rows_by_data.values())):
            own = [rows[setting] for rows in rows_by_data.values()]
            yield " | ".join(f"{mean(row)} | {row['seconds']:.1f}" for row in own), (PAPER,)


def oracle_figures():
    """Rows of the table of learned buckets."""
    for data in ("tate_subjects", "stdlib", "acl_authors", "diginetica"):
        for runs in result(f"oracle_{data}")["runs"].values():
            first = [100 * run["precision_at_1"] for run in runs]
            error = statistics.stdev(first) / len(first) ** 0.5
            last = 100 * statistics.mean(run["precision_at_5"] for run in runs)
            found = [
                100 * statistics.mean(run[key] for run in runs) for key in ("of_largest", "of_all") if key in runs[0]
            ]
            cells = f"{statistics.mean(first):.2f}", f"{error:.2f}", f"{last:.2f}", *(f"{share:.1f}" for share in found)
            yield " | ".join(cells), (RESULTS_PAGE,)


def readme_rows():
    """Rows of the table at the top: P@1, seconds of the whole run, and peak memory where it was measured."""
    papers, code, shape = (rows_of(f"time_to_accuracy_{name}") for name in ("acl_authors", "stdlib", "amazon-670k"))
    sampled, dense = "PyTorch sampled, 0.003", "PyTorch dense, 0.003"
    of_papers, art, titles = (rows_of(f"compare_{name}") for name in ("acl_authors", "tate_subjects", "library_titles"))

    def with_memory(cell, n_bytes):
        return f"{cell}, {(n_bytes['median'] if isinstance(n_bytes, dict) else n_bytes) / 1e9:.1f} GB"

    def of_compare(row):
        return with_memory(f"{percent(row)}, {row['seconds']['median']:.0f} s", row["peak_memory_bytes"])

    yield [
        with_memory(best_after(papers["slide_fast, wide"]), of_papers["slide"]["peak_memory_bytes"]),
        with_memory(best_after(papers["omikuji"]), of_papers["omikuji"]["peak_memory_bytes"]),
        *[best_after(papers[name]) for name in (sampled, dense)],
    ]
    yield [best_after(code[name]) for name in ("slide_fast", "omikuji", sampled, dense)]
    yield [of_compare(art[name]) for name in ("slide", "omikuji")]
    wide = rows_of("text_accuracy", "name")["slide, words, wide"]
    ours = with_memory(f"{percent(wide)}, {wide['seconds']:.0f} s", titles["slide"]["peak_memory_bytes"])
    yield [ours, *[of_compare(titles[name]) for name in ("omikuji", "PyTorch sampled", "PyTorch dense")]]
    n_bytes = result("memory_amazon-670k")["bytes"]
    yield [with_memory(best_after(shape["slide_fast"]), n_bytes["slide train, peak"])]
    yield [with_memory(best_after(shape[sampled]), n_bytes["PyTorch sampled softmax, peak"])]


def figures_of_files():
    """Figures as pages show them, each with the pages that do: of what is measured again now and then."""
    yield from time_to_accuracy_figures()
    yield from throughput_figures()
    yield from prediction_figures()
    yield from text_figures()
    yield from compare_figures()
    yield from experiment_figures()
    yield from oracle_figures()
    yield from ((" | ".join(cells), (README,)) for cells in readme_rows())


def test_pages_show_the_figures_of_their_files():
    """Bold or not."""
    pages = {page for _, pages in figures_of_files() for page in pages}
    texts = {page: (ROOT / page).read_text(encoding="utf-8").replace("**", "") for page in pages}
    texts = {page: re.sub(r"\s+", " ", text) for page, text in texts.items()}
    missing = []
    for figure, pages in figures_of_files():
        shown = re.compile(rf"(?<![\d.,]){re.escape(figure)}(?!\d|[.,]\d)")
        missing += [(figure, page) for page in pages if not shown.search(texts[page])]
    assert missing == []
