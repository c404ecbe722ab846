"""Fuzz the readers of XMC text, guided by the code they reach (atheris) or by chance alone.

    python -m pip install atheris
    python tests/fuzz/fuzz_text.py --runs 1000000 --out benchmarks/results/fuzz.json

An input that breaks a promise of `reading.py` stops the run and is kept in ``--finds``.
"""

import argparse
import datetime
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import corpus  # noqa: E402
import reading  # noqa: E402

MEMORY_EVERY, PRINT_EVERY = 1000, 10_000


class Target:
    """Counts inputs, those accepted, and checks the memory of some."""

    def __init__(self, path):
        self.path, self.runs, self.accepted = path, 0, 0

    def __call__(self, content):
        self.runs += 1
        self.accepted += reading.check_text(content, self.path)
        if self.runs % MEMORY_EVERY == 0:
            reading.check_memory(reading.read_xmc, content, self.path)
        if self.runs % PRINT_EVERY == 0:
            print(json.dumps({"runs": self.runs, "accepted": self.accepted}), flush=True)


def mutate(rng, content):
    """A few cuts, copies, exchanged bytes and words of the grammar."""
    content = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.randrange(1, 9))
        kind = rng.randrange(4)
        if kind == 0:
            content[at:end] = b""
        elif kind == 1:
            content[at:at] = rng.choice(corpus.WORDS)
        elif kind == 2:
            content[at:end] = rng.choice(corpus.WORDS)
        else:
            content[at:at] = content[at:end]
    return bytes(content[:2000])


def by_chance(target, runs, seed):
    """Mutations of inputs, with those kept that were accepted."""
    rng, pool = random.Random(seed), list(corpus.SEEDS)
    for _ in range(runs):
        content = mutate(rng, rng.choice(pool))
        before = target.accepted
        target(content)
        if target.accepted > before and rng.random() < 0.01:
            pool.append(content)


def guided(target, arguments, finds):
    """Under atheris; ends the process."""
    import atheris

    for name in [name for name in sys.modules if name.split(".")[0] in ("slide_fast", "slide_ref")]:
        del sys.modules[name]  # they are imported again, instrumented
    with atheris.instrument_imports(include=["slide_fast", "slide_ref"], enable_loader_override=False):
        import slide_fast.data
        import slide_ref.common.errors
        import slide_ref.data
    reading.DataError = slide_ref.common.errors.DataError
    reading.read_xmc, reading.read_line_by_line = slide_fast.data.read_xmc, slide_ref.data.read_xmc
    atheris.Setup([sys.argv[0], *arguments, f"-artifact_prefix={finds}/"], target)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chance", action="store_true", help="without atheris")
    parser.add_argument("--finds", default="fuzz-finds", help="folder for inputs that break something")
    parser.add_argument("--out", help="write a summary here")
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.chance:
        started = time.perf_counter()
        with scratch_file() as path:
            target = Target(path)
            by_chance(target, options.runs, options.seed)
        print(json.dumps({"runs": target.runs, "accepted": target.accepted, "seconds": time.perf_counter() - started}))
    elif options.child:
        start_corpus = Path(options.finds, "corpus")
        start_corpus.mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(corpus.SEEDS):
            (start_corpus / f"seed{i}").write_bytes(content)
        flags = [f"-runs={options.runs}", f"-seed={options.seed}", "-max_len=2000", str(start_corpus)]
        guided(Target(options.child), flags, options.finds)
    else:
        with scratch_file() as path:
            watch(options, path)


@contextmanager
def scratch_file():
    """A file in memory where there is such a place: a million inputs wear out no disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield str(Path(folder, "text"))


def watch(options, path):
    """Run the guided fuzzer in a process of its own, for it never returns, and tell what it did."""
    arguments = [
        __file__,
        "--child",
        path,
        "--finds",
        options.finds,
        f"--runs={options.runs}",
        f"--seed={options.seed}",
    ]
    started = time.perf_counter()
    child = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    counts = [json.loads(line) for line in child.stdout.splitlines() if line.startswith('{"runs"')]
    done = [line for line in child.stdout.splitlines() if line.startswith("Done ")]
    print(child.stdout[-3000:])
    if options.out and done:
        from slide_fast.parallel.machine import cpu_model

        facts = {"date": datetime.date.today().isoformat(), "cpu": cpu_model(), "fuzzer": "atheris (libFuzzer)",
                 "runs": int(done[0].split()[1]), "accepted": counts[-1]["accepted"] if counts else None,
                 "failures": 0 if child.returncode == 0 else 1,
                 "seconds": round(time.perf_counter() - started)}  # fmt: skip
        Path(options.out).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    sys.exit(child.returncode)


if __name__ == "__main__":
    main()
