"""What a sweep costs beside the slower of its halves: the model, and making its pictures.

    python tests/benchmarks/sweep.py                             # 200 images, 18,600 requests
    python tests/benchmarks/sweep.py --images 10 --memory-images 5
    python tests/benchmarks/sweep.py --rounds 3 --json sweep.json

The packaged model is asked 3 questions on each of 200 phantoms (radiographs, CT, MRI, fundus
photographs, tissue; DICOM, NIfTI, JPEG, TIFF), clean and under 6 degradations that apply to all of
them, at 5 severities. Each of these is a process of its own, the rounds taking turns:

- full: the run as a user runs it (plan, render, ask, store, score), from the loaded program and
  model to the scored result;
- model alone: `generate` on the same requests in the same order with the same batch size; they are
  planned before, and their pictures lie rendered in a file;
- render alone: the pictures of the same plan, from as many threads as the pipeline has (one on two
  cores), each with a Renderer and images of its own. Its requests are pictures.

Each gets the threads that torch and OpenMP take by themselves: OMP_NUM_THREADS and its kin are
taken out of the environment. Each half runs both with what torch took and with a core less, or one
thread, and its quicker time counts: on a machine that others use as well, threads that wait for
each other can make more of them many times slower, which must not flatter the run. Questions on one
picture come together and share it, in `full` as in model alone.

`cpu` is the processor seconds meanwhile (of `full` without the process that renders), `start`
loading the program and the model, `memory` the peak of the process. Then the peak of `full` with
the process that renders, what both share counted once, is compared between 1 and 5 severities. Exit
code 0 if a run takes at most 1.15 times as long as the slower half and its memory grows by at most
a tenth. With few images what does not grow with a run, such as its first batch, counts for more
than it should.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mmeval
from mmeval import benchmarks, config, models
from mmeval.models.base import Model
from mmeval.running import pipeline
from mmeval.running.plan import Plan, Planned
from mmeval.running.render import Renderer
from mmeval.schema import Condition, ImageRef, Request, Response

#: Of display pixels, for any modality, and moving nothing.
DEGRADATIONS = (
    "general/gaussian_noise@imagenet-c",
    "general/gaussian_blur",
    "general/motion_blur",
    "general/jpeg",
    "general/contrast_down",
    "general/low_resolution",
)
SEVERITIES = {1: "3", 5: "1,2,3,4,5"}
SEED = 20261121
#: Most times the slower half that a run may take, and most that its memory may grow.
MOST, MOST_MEMORY = 1.15, 1.1
#: Name in the table, step, options; the halves with fewer threads come behind the others.
STEPS: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("full", "full", {}),
    ("model alone", "model", {}),
    ("model alone, a core less", "model", {"fewer": 1}),
    ("render alone", "render", {}),
    ("render alone, one torch thread", "render", {"fewer": 1}),
)
#: Would give the program other threads than it takes by itself.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Look = tuple[Path, ImageRef, Condition]


class Watched:
    """A model, and how long it waits for requests and for its answers to be stored."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.identity, self.batch_size = model.identity, model.batch_size
        self.computes_on = "cpu"
        self.began = self.ended = self.waited = self.stored = self.memory_mb = 0.0
        self.keys, self.answers = hashlib.sha256(), hashlib.sha256()
        self.requests = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        self.began = time.perf_counter()
        for response in self.model.generate(self._counted(requests)):
            if response.status != "ok":
                raise SystemExit(f"a request failed: {response.error}")
            self.answers.update(f"{response.key} {response.text}\n".encode())
            gave = time.perf_counter()
            yield response
            self.stored += time.perf_counter() - gave
        self.ended, self.memory_mb = time.perf_counter(), peak_mb()

    def _counted(self, requests: Iterable[Request]) -> Iterator[Request]:
        stream = iter(requests)
        while True:
            asked = time.perf_counter()
            request = next(stream, None)
            self.waited += time.perf_counter() - asked
            if request is None:
                return
            self.requests += 1
            self.keys.update(f"{request.key}\n".encode())
            yield request

    def figures(self) -> dict[str, Any]:
        """What was asked and answered, in order, and where the time of asking went."""
        return {
            "requests": self.requests,
            "keys": self.keys.hexdigest(),
            "answers": self.answers.hexdigest(),
            "asking_s": self.ended - self.began,
            "waiting_s": self.waited,
            "storing_s": self.stored,
            "asking_memory_mb": self.memory_mb,
        }


# --- Each in a process of its own -----------------------------------------------------------------


def prepare(folder: Path, images: int, questions: int) -> dict[str, Any]:
    """Writes phantoms, ``sweep.jsonl``, and a file with the pictures of all conditions."""
    from mmeval import phantom
    from mmeval.phantom import questions as asking
    from mmeval.phantom.anatomy import generator

    n = 10
    while len(cases := asking.build(SEED, n).cases) < images:
        n += 10
    phantom.write(folder, SEED, n)
    with (folder / "sweep.jsonl").open("w") as file:
        for number, case in enumerate(cases[:images]):
            made, rng = asking.Benchmark(), generator(SEED, number)
            asking.ask_named(made, rng, case, "modality")
            asking.ask_probe(made, rng, case)
            asking.ask_named(made, rng, case, "organ")
            for sample in made.samples[:questions]:
                file.write(json.dumps(sample.to_dict()) + "\n")
    found, renderer = looks(planned(folder, {})), Renderer(SEED)
    with (folder / "pictures").open("wb") as pictures:
        for look in found:
            picture = renderer.render(*look)
            pictures.write(np.array(picture.shape[:2], np.uint32).tobytes() + picture.tobytes())
    return {"wall_s": 0.0, "pictures": len(found)}


class Memory(threading.Thread):
    """The most that this process and those that it started hold, twice a second, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most_mb = 0.0

    def run(self) -> None:
        while True:
            processes = {os.getpid()}
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    processes |= set(map(int, (task / "children").read_text().split()))
            held = 0
            for process in processes:
                with contextlib.suppress(OSError):  # it has ended
                    text = Path(f"/proc/{process}/smaps_rollup").read_text()
                    held += int(text.partition("\nPss:")[2].split()[0])
            self.most_mb = max(self.most_mb, held / 1024)
            time.sleep(0.5)


def full(
    folder: Path,
    severities: int = max(SEVERITIES),
    limit: int | None = None,
    memory: int = 0,
) -> dict[str, Any]:
    """The run as a user runs it."""
    watch = Memory()
    if memory:
        watch.start()
    model = load_model()
    start, began, cpu = time.monotonic(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run = mmeval.evaluate(
            model,
            str(folder / "sweep.jsonl"),
            conditions(severities),
            out=out,
            limit=limit,
            progress=False,
            seed=SEED,
        )
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        assert len(run.scores) == len(run.responses) == model.requests
    return {
        "loaded": start,
        "wall_s": ended - began,
        "cpu_s": cpu,
        "planning_s": model.began - began,
        "scoring_s": ended - model.ended,
        "together_mb": watch.most_mb,
        **model.figures(),
    }


def model_alone(folder: Path, fewer: int = 0) -> dict[str, Any]:
    """The same requests, whose pictures are there already."""
    import torch

    model = load_model()
    if fewer:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    asked = list(planned(folder, model.identity))
    start, cpu = time.monotonic(), time.process_time()
    for _ in model.generate(requests(asked, stored_pictures(folder / "pictures"))):
        pass
    cpu = time.process_time() - cpu
    figures = model.figures()
    return {"loaded": start, "wall_s": figures["asking_s"], "cpu_s": cpu, **figures}


def render_alone(folder: Path, fewer: int = 0) -> dict[str, Any]:
    """The same pictures, for nobody."""
    import torch

    threads = pipeline._threads()
    shares: list[list[Look]] = [[] for _ in range(threads)]
    found = looks(planned(folder, {}))
    files = {file: number for number, file in enumerate(dict.fromkeys(look[0] for look in found))}
    for look in found:
        shares[files[look[0]] % threads].append(look)

    def render(share: Sequence[Look]) -> None:
        renderer = Renderer(SEED)
        if fewer:
            torch.set_num_threads(1)
        for look in share:
            renderer.render(*look)

    start, began, cpu = time.monotonic(), time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(render, shares))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"loaded": start, "wall_s": wall, "cpu_s": cpu, "requests": len(found)}


def alone(step: str, folder: Path, options: dict[str, int]) -> dict[str, Any]:
    """Runs one step in this process."""
    steps: dict[str, Callable[..., dict[str, Any]]] = {
        "prepare": prepare,
        "full": full,
        "model": model_alone,
        "render": render_alone,
    }
    return steps[step](folder, **options) | {"memory_mb": peak_mb()}


def load_model() -> Watched:
    """The packaged model, with its packaged settings."""
    return Watched(models.load(config.load({"model": "phantom", "benchmarks": "phantom"}).model))


def conditions(severities: int) -> list[str]:
    """Clean, and every degradation at so many severities."""
    return ["clean", *(f"{name}:{SEVERITIES[severities]}" for name in DEGRADATIONS)]


def planned(folder: Path, identity: Mapping[str, Any]) -> list[Planned]:
    """What `full` asks at all severities, in its order; equal recipes once."""
    path = str(folder / "sweep.jsonl")
    names = conditions(max(SEVERITIES))
    settings = config.load(
        {"model": dict(identity), "benchmarks": path, "conditions": names, "seed": SEED}
    )
    plan = Plan(settings, [benchmarks.load(spec) for spec in settings.benchmarks], identity)
    found = {each.row.key: each for each in plan}
    assert not plan.skipped, f"a degradation does not apply: {plan.skipped}"
    return list(found.values())


def look_at(each: Planned) -> Look:
    """The picture of a question."""
    return each.benchmark.locate(each.sample.images[0]), each.sample.images[0], each.looks[0]


def looks(asked: Sequence[Planned]) -> list[Look]:
    """Pictures in the plan's order, those of several questions once."""
    found = [look_at(each) for each in asked]
    return found[:1] + [after for before, after in pairwise(found) if after != before]


def requests(
    asked: Sequence[Planned], pictures: Iterator[npt.NDArray[np.uint8]]
) -> Iterator[Request]:
    """Requests as the pipeline makes them; questions on one picture share its array."""
    before: Look | None = None
    images: tuple[npt.NDArray[np.uint8], ...] = ()
    for each in asked:
        look = look_at(each)
        if look != before:
            before, images = look, (next(pictures),)
        yield Request(
            *each.row[:5],
            each.messages,
            images,
            each.candidates,
            each.max_new_tokens,
            each.temperature,
            each.row.purpose,
        )


def stored_pictures(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Reads one picture after the other; a memory map's pages would count as memory."""
    with path.open("rb") as file:
        while head := file.read(8):
            height, width = np.frombuffer(head, np.uint32).tolist()
            yield np.fromfile(file, np.uint8, height * width * 3).reshape(height, width, 3)


def peak_mb() -> float:
    """The most that the process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- In the process that measures -----------------------------------------------------------------


def measured(step: str, folder: Path, **options: int) -> dict[str, Any]:
    """Runs a step in a process of its own and returns what it printed last."""
    command = [sys.executable, __file__, "--one", step, str(folder), json.dumps(options)]
    began = time.monotonic()  # one clock for all processes
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found["start_s"] = found.pop("loaded", began) - began
    print(f"  {time.monotonic() - began:.0f} s: {step} {options or ''}", file=sys.stderr)
    return found


def median(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of every number."""
    first = rounds[0]
    numbers = [key for key, value in first.items() if isinstance(value, float)]
    return dict(first) | {key: statistics.median(each[key] for each in rounds) for key in numbers}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| step | wall (s) | cpu (s) | requests | requests/s | start (s) | memory (MB) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        rate = row["requests"] / row["wall_s"]
        lines.append(
            f"| {row['name']} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} | {row['requests']} | "
            f"{rate:.1f} | {row['start_s']:.1f} | {row['memory_mb']:.0f} |"
        )
    return "\n".join(lines)


def measure_sweep(folder: Path, n_rounds: int) -> dict[str, Any]:
    """Measures the run and its halves in turns, and prints what they took."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in STEPS}
    for _ in range(n_rounds):
        for name, step, options in STEPS:
            rounds[name].append(measured(step, folder, **options))
    rows = [median(found) | {"name": name} for name, found in rounds.items()]
    print(table(rows))
    asked = [each for found in rounds.values() for each in found if "keys" in each]
    if len({each["keys"] for each in asked}) > 1:
        raise SystemExit("full and model alone did not ask the same requests in the same order")
    same = len({each["answers"] for each in asked}) == 1
    whole = rows[0]
    model, render = (min(half, key=lambda row: row["wall_s"]) for half in (rows[1:3], rows[3:5]))
    slower = max(model["wall_s"], render["wall_s"])
    ratio = whole["wall_s"] / slower
    rest = whole["asking_s"] - whole["waiting_s"] - whole["storing_s"]
    cores = len(os.sched_getaffinity(0))
    both = sum(min(row["cpu_s"] for row in half) for half in (rows[1:3], rows[3:5])) / cores
    print(
        f"full: {whole['planning_s']:.1f} s planning; {whole['asking_s']:.1f} s asking, of which "
        f"{rest:.1f} s in the model, {whole['waiting_s']:.1f} s waiting for pictures, "
        f"{whole['storing_s']:.1f} s storing; {whole['scoring_s']:.1f} s scoring\n"
        f"answers equal to model alone: {'yes' if same else 'NO'}\n"
        f"processor seconds of both halves over {cores} cores: {both:.1f} s, "
        f"{both / slower:.2f} times the slower half\n"
        f"full / max(model, render) = {whole['wall_s']:.1f} / {slower:.1f} = {ratio:.3f} "
        f"(at most {MOST})"
    )
    return {"rows": rows, "rounds": rounds, "ratio": ratio, "answers_equal": same}


def measure_memory(folder: Path, images: int, questions: int) -> dict[str, Any]:
    """Measures the peak of a run at one severity and at all, and prints both."""
    rows = []
    for severities in SEVERITIES:
        row = measured("full", folder, severities=severities, limit=images * questions, memory=1)
        row["memory_mb"] = row["together_mb"]
        row["name"] = f"{len(DEGRADATIONS)} degradations x {severities}, {images} images"
        rows.append(row)
    few, many = rows
    growth = many["memory_mb"] / few["memory_mb"]
    print(
        f"{table(rows)}\n"
        f"while asking: {few['asking_memory_mb']:.0f} and {many['asking_memory_mb']:.0f} MB\n"
        f"memory with {many['requests'] / few['requests']:.1f} times the conditions: {growth:.3f} "
        f"times (at most {MOST_MEMORY})"
    )
    return {"memory": rows, "memory_growth": growth}


def main() -> int:
    """Measures, prints tables; with ``--json`` also writes the figures. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--questions", type=int, default=3, choices=range(1, 6))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory-images", type=int, default=50, help="0: memory is not compared")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(alone(args.one[0], Path(args.one[1]), json.loads(args.one[2]))))
        return 0
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}
    for name in THREADS:
        os.environ.pop(name, None)
    result: dict[str, Any] = {"load_before": os.getloadavg()[0], "cpus": os.cpu_count()}
    result |= {"images": args.images, "questions": args.questions, "degradations": DEGRADATIONS}
    with tempfile.TemporaryDirectory(prefix="mmeval-sweep-") as name:
        folder = Path(name)
        measured("prepare", folder, images=args.images, questions=args.questions)
        result |= measure_sweep(folder, args.rounds)
        good = result["ratio"] <= MOST
        if args.memory_images:
            images = min(args.images, args.memory_images)
            result |= measure_memory(folder, images, args.questions)
            good = good and result["memory_growth"] <= MOST_MEMORY
    result["load_after"] = os.getloadavg()[0]
    print(f"load average {result['load_before']:.1f} before, {result['load_after']:.1f} after")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
