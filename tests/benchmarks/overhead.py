"""What asking costs beside the model: mmeval and its peers, one after the other on one machine.

    python tests/benchmarks/overhead.py                    # mmeval alone
    python tests/benchmarks/overhead.py --peers FOLDER     # also the peers, installed into FOLDER
    python tests/benchmarks/overhead.py --long 1000000     # time and memory of a long run, resumed

2,000 questions with four options, each on a PNG of 224 x 224 pixels of its own; a model that looks
at the decoded picture and answers "B" at once. Every run is a process of its own. `wall` is from
the loaded program to the scored result, `cpu` the processor seconds meanwhile, `ms` the wall over
the questions, `start` from the start of the process to the first request, `memory` the peak.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

BEGAN = time.perf_counter()
PEERS = Path(__file__).with_name("overhead_peers.py")
OPTIONS = ("pneumonia", "effusion", "normal", "mass")
#: What is installed for each peer: with its dependencies, then without.
PACKAGES = {
    "inspect": (["inspect-ai==0.3.285", "pillow"], []),
    "lm_eval": (["torch==2.13.0", "lm-eval==0.4.13", "pillow"], []),
    "lmms_eval": (
        [
            *("torch==2.13.0", "accelerate", "aiohttp", "datasets", "dill", "evaluate", "httpx"),
            *("jinja2", "jsonlines", "latex2sympy2", "loguru", "nltk", "numpy", "openai"),
            *("opencv-python-headless", "packaging", "pillow", "pydantic", "pytablewriter"),
            *("python-dotenv", "pytz", "pyyaml", "requests", "sacrebleu", "scikit-learn"),
            *("sqlitedict", "sympy", "tenacity", "tiktoken", "tqdm-multiprocess", "transformers"),
        ],
        ["lmms-eval==0.7.3"],
    ),
}
#: Name in the table, peer, arguments of its process.
RUNS = (
    ("inspect-ai, log on disk", "inspect", ["inspect"]),
    ("lm-eval, samples logged in memory", "lm_eval", ["lm_eval", "samples"]),
    ("lm-eval, nothing logged", "lm_eval", ["lm_eval"]),
    ("lmms-eval, samples logged in memory", "lmms_eval", ["lmms_eval", "samples"]),
)


class Instant:
    """Looks at a pixel of every picture and answers "B"."""

    identity: ClassVar = {"backend": "instant"}
    batch_size = 32

    def __init__(self) -> None:
        self.first: float | None = None

    def generate(self, requests: Iterable[Any]) -> Iterator[Any]:
        from mmeval.schema import Response

        for request in requests:
            self.first = self.first or time.perf_counter() - BEGAN
            assert all(image[0, 0, 0] >= 0 for image in request.images)
            row = (request.key, request.benchmark, request.sample, request.condition)
            purpose = request.purpose
            yield Response(*row, request.trial, status="ok", text="B", purpose=purpose)


def write_questions(folder: Path, n: int) -> None:
    """Writes the pictures, ``samples.jsonl`` for mmeval and ``questions.jsonl`` for its peers."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    with (
        (folder / "samples.jsonl").open("w") as samples,
        (folder / "questions.jsonl").open("w") as questions,
    ):
        for i in range(n):
            name = f"images/{i:06d}.png"
            # Smooth, as pictures are: some 15 kB.
            coarse = Image.fromarray(generator.integers(0, 255, (14, 14), np.uint8))
            coarse.resize((224, 224), Image.Resampling.BILINEAR).save(folder / name)
            question = f"Which finding is present in image {i}?"
            sample = {
                "id": str(i),
                "question": question,
                "kind": "choice",
                "options": OPTIONS,
                "answer": "ABCD"[i % 4],
                "images": [{"path": name, "modality": "xray"}],
            }
            samples.write(json.dumps(sample) + "\n")
            peer = {
                "id": i,
                "image": str(folder / name),
                "question": question,
                "choices": OPTIONS,
                "target": "ABCD"[i % 4],
            }
            questions.write(json.dumps(peer) + "\n")


def run_mmeval(folder: Path, sync: str) -> dict[str, float]:
    """Asks everything once; in a process of its own."""
    import mmeval.runs
    from mmeval import store

    if sync == "each":
        store.Store.__init__.__defaults__ = (0.0,)  # every answer, before the next is taken
    model = Instant()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        began, cpu = time.perf_counter(), time.process_time()
        run = mmeval.evaluate(model, str(folder / "samples.jsonl"), out=out, progress=False)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        written = sum(file.stat().st_size for file in Path(out).iterdir() if file.is_file())
        assert len(run.scores) == len(run.responses)
        assert {score.parsed for score in run.scores} == {"B"}
    return {
        "questions": len(run.scores),
        "wall_s": wall,
        "cpu_s": cpu,
        "start_s": model.first or 0.0,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "log_mb": written / 1e6,
        "torch": float("torch" in sys.modules),
    }


def run_long(folder: Path, n: int) -> list[dict[str, float]]:
    """Asks n requests, 100 on each of n / 100 questions without pictures, then looks what is left.

    Without pictures, as decoding would hide what the rest costs.
    """
    from mmeval import benchmarks, config
    from mmeval.running.pipeline import ask, todo
    from mmeval.running.plan import Plan
    from mmeval.running.render import Renderer
    from mmeval.store import Store

    path = folder / "samples.jsonl"
    with path.open("w") as file:
        for i in range(n // 100):
            sample = {"id": str(i), "question": f"{i}?", "kind": "choice", "answer": "A"}
            file.write(json.dumps(sample | {"options": OPTIONS}) + "\n")
    source = {
        "model": Instant.identity,
        "benchmarks": [str(path)],
        "confidence": "voting",
        "trials": 99,
    }
    settings = config.load(source)
    marks: list[dict[str, float]] = []

    class Marked(Instant):
        def generate(self, requests: Iterable[Any]) -> Iterator[Any]:
            began, cpu = time.perf_counter(), time.process_time()
            for done, response in enumerate(super().generate(requests), start=1):
                if done % (n // 10) == 0:
                    took = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
                    marks.append({"requests": done, **took, "memory_mb": memory()})
                yield response

    def planned() -> Plan:
        return Plan(settings, [benchmarks.load(settings.benchmarks[0])], Instant.identity)

    with Store(folder / "run") as kept:
        plan = planned()
        ask(plan, todo(plan, kept), Renderer(), Marked(), kept, progress=False)
    size = (folder / "run" / "responses.jsonl").stat().st_size
    for step in ("scan_s", "scan_and_plan_s"):
        began, cpu = time.perf_counter(), time.process_time()
        with Store(folder / "run") as kept:
            if step == "scan_and_plan_s":
                work = todo(planned(), kept)
                assert (work.total, work.answered) == (n, n)
            took = {step: time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
            marks.append({"requests": n, **took, "memory_mb": memory(), "on_disk_mb": size / 1e6})
    return marks


def memory() -> float:
    """What the process holds now, in MB; the peak would hide what is given back."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measured(command: list[str], repeats: int) -> dict[str, Any]:
    """Runs a process several times and returns what the quickest printed last."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(f"  {time.perf_counter() - began:.0f} s: {' '.join(command[1:])}", file=sys.stderr)
    return min(found, key=lambda each: each["wall_s"])


def install(folder: Path) -> dict[str, Path]:
    """Makes an environment for every peer that has none, and returns their Pythons."""
    pythons = {}
    for name, (packages, alone) in PACKAGES.items():
        python = folder / name / "bin" / "python"
        if not (folder / name / "complete").exists():
            print(f"  installing {name} into {folder / name}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
            pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
            subprocess.run([*pip, *packages], check=True)
            if alone:
                subprocess.run([*pip, "--no-deps", *alone], check=True)
            (folder / name / "complete").touch()
        pythons[name] = python
    return pythons


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| program | wall (s) | cpu (s) | ms a question | start (s) | memory (MB) | on disk (MB) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ms = 1000 * row["wall_s"] / row["questions"]
        disk = f"{row['log_mb']:.1f}" if row.get("log_mb") else "-"
        lines.append(
            f"| {row['name']} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} | {ms:.2f} | "
            f"{row['start_s']:.1f} | {row['memory_mb']:.0f} | {disk} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measures and prints a table; with ``--json`` also writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", metavar="FOLDER", type=Path)
    parser.add_argument("--long", metavar="N", type=int)
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "SYNC"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    os.environ |= {"TQDM_DISABLE": "1"}
    # Installed programs have been compiled; so have these after their first of several runs.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if args.one:
        print(json.dumps(run_mmeval(Path(args.one[0]), args.one[1])))
        return 0
    result: dict[str, Any] = {"load_before": os.getloadavg()[0], "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="mmeval-overhead-") as name:
        folder = Path(name)
        if args.long:
            result["long"] = run_long(folder, args.long)
            for mark in result["long"]:
                print(", ".join(f"{key} {value:,.1f}" for key, value in mark.items()))
        else:
            pythons = install(args.peers.absolute()) if args.peers else {}
            write_questions(folder, args.n)
            rows: list[dict[str, Any]] = []

            def add(name: str, command: list[str]) -> None:
                rows.append({"name": name, **measured(command, args.repeats)})

            for label, sync in (("synced 5 times a second", "often"), ("each synced", "each")):
                command = [sys.executable, __file__, "--one", name, sync]
                add(f"mmeval, {label}", command)
            for label, peer, arguments in RUNS if pythons else ():
                add(label, [str(pythons[peer]), str(PEERS), name, *arguments])
            print(table(rows))
            result["rows"] = rows
    result["load_after"] = os.getloadavg()[0]
    print(f"load average {result['load_before']:.1f} before, {result['load_after']:.1f} after")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
