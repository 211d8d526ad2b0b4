"""The Python face: `evaluate` asks, `Run` reads what came back."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mmeval
from mmeval import benchmarks, config, store
from mmeval.benchmarks import Benchmark
from mmeval.config import RunConfig
from mmeval.models.base import Model
from mmeval.running import cluster
from mmeval.running.pipeline import Outcome, Todo, ask, todo
from mmeval.running.plan import Plan
from mmeval.running.render import Renderer
from mmeval.schema import Condition, Response, Sample, Score, canonical
from mmeval.store import Store

__all__ = ["Run", "environment", "evaluate", "exceeded", "execute", "with_report"]

_PACKAGES = ("torch", "transformers", "numpy", "pillow", "pydicom", "nibabel", "tifffile")


@dataclass(frozen=True)
class Run:
    """A run directory, read.

    Attributes:
        path: The directory.
    """

    path: Path

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Tidy rows: benchmark, metric, value, ci_low, ci_high, n, ..., condition, by.

        ``pandas.DataFrame(run.metrics)`` is a table of them.
        """
        rows: list[dict[str, Any]] = store.read_json(self.path, "metrics.json")["rows"]
        return rows

    @cached_property
    def samples(self) -> dict[tuple[str, str], Sample]:
        """Samples by benchmark and id."""
        return store.samples(self.path)

    @cached_property
    def responses(self) -> list[Response]:
        """The answer to each question of the current plan."""
        return list(store.responses(self.path))

    @cached_property
    def scores(self) -> list[Score]:
        """The score of each answer."""
        found = store.read_records(self.path, "scores.jsonl")
        return [Score.from_dict(data) for data in found]

    def table(self) -> str:
        """Returns accuracy and calibration shift by degradation and severity, with intervals."""
        from mmeval.report import summary_table

        return summary_table(self.metrics)

    def __str__(self) -> str:
        return f"{self.path}\n{self.table()}"


def evaluate(
    model: str | Path | Mapping[str, Any] | Model,
    benchmark: object,
    conditions: Sequence[str] = ("clean",),
    *,
    out: str | Path,
    limit: int | None = None,
    progress: bool = True,
    **settings: Any,  # noqa: ANN401
) -> Run:
    """Asks a model a benchmark's questions under every condition, and scores the answers.

    Answers that `out` already holds are not asked again.

    Args:
        model: Name or file of a model configuration, checkpoint folder, mapping, or an object with
            the methods of `mmeval.models.Model`.
        benchmark: Name or file of a specification, ``samples.jsonl``, mapping, or a list of these.
        conditions: ``clean`` and degradation specs such as ``general/jpeg:3``.
        out: The run directory.
        limit: First samples of each benchmark only.
        progress: Show how far it is, on standard error.
        **settings: Further fields of `mmeval.config.RunConfig`, such as ``seed=1``.

    Returns:
        The run, scored.

    Raises:
        MmevalError: The input is wrong; the message says how to mend it.
        KeyboardInterrupt: Somebody stopped it. Answers are kept; call again to go on.
    """
    ready = model if isinstance(model, Model) else None
    run_config = config.load(
        {
            "name": Path(out).name,
            **settings,
            "model": dict(ready.identity) if ready else model,
            "benchmarks": benchmark,
            "conditions": list(conditions),
        },
        out=out,
        limit=limit,
    )
    run, outcome = execute(run_config, ready, progress)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return run


def execute(
    run_config: RunConfig,
    model: Model | None = None,
    progress: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Run, Outcome]:
    """Plans, asks, stores and scores.

    Args:
        run_config: What to do.
        model: Used instead of the configuration's.
        progress: Show how far it is, on standard error.
        say: Receives a summary of the plan, line by line.

    Returns:
        The run (scored unless it was interrupted) and what asking came to.
    """
    from mmeval.scoring import score_run

    out = run_config.out
    with Store(out) as kept, contextlib.ExitStack() as stack:
        if kept.repaired:
            say(f"{out}: the last line of responses.jsonl was torn by a crash; it is asked again")
        # Published images may be hard to come by; what a model says without them needs none.
        shown = any(Condition(c).control != "no_image" for c in run_config.conditions)
        loaded = [
            benchmarks.load(
                spec, out / "data" / str(spec.get("name", "benchmark")), check_images=shown
            )
            for spec in run_config.benchmarks
        ]
        for benchmark in loaded:
            say(f"benchmark   {_counted(benchmark, run_config.limit)}")
            for text in benchmark.warnings:
                say(f"warning     {text}")
        how = cluster.executor(run_config.executor)
        asked = stack.enter_context(cluster.opened(run_config.model, how, model))
        say(f"model       {_named(run_config, asked)}")
        plan = Plan(run_config, loaded, asked.identity)
        kept.write("config.yaml", run_config.to_yaml())
        kept.write_samples((benchmark.name, sample) for benchmark, sample in plan.samples())
        kept.write("environment.json", canonical(environment(plan, out)) + "\n")
        work = todo(plan, kept)
        say(textwrap.fill(f"conditions  {_conditions(plan)}", 100, subsequent_indent=" " * 12))
        for (condition, reason), count in plan.refusals.most_common(5):
            say(f"left out    {count} questions under {condition}: {reason}")
        renderer = Renderer(
            run_config.seed,
            run_config.render_size,
            run_config.assume_window,
            clean=not any(condition.degradations for condition in plan.conditions),
        )
        say(_todo("first turns" if plan.waiting else "questions", work))
        outcome = ask(plan, work, renderer, asked, kept, progress=progress)
        if plan.waiting and not outcome.interrupted:
            plan.first = _first_turns(out, kept.answers)
            work = todo(plan, kept)
            say(_todo("questions", work))
            rest = ask(plan, work, renderer, asked, kept, progress=progress)
            outcome = dataclasses.replace(rest, asked=outcome.asked + rest.asked)
        if not outcome.interrupted and not store.is_finished(out):
            samples = {(benchmark.name, sample.id): sample for benchmark, sample in plan.samples()}
            score_run(out, answers=kept.answers, samples=samples)
            store.mark_finished(out)
    return Run(out), outcome


def _todo(what: str, work: Todo) -> str:
    again = f", {work.again} of them again after an error" if work.again else ""
    return f"{what:11} {work.total}: {work.answered} answered before, {work.to_ask} to ask{again}"


def _first_turns(run: Path, answers: store.Answers) -> dict[tuple[str, str, str], Response]:
    return {
        (response.benchmark, response.sample, response.condition): response
        for response in store.responses(run, answers)
        if response.purpose == "turn"
    }


def _counted(benchmark: Benchmark, limit: int | None) -> str:
    text = f"{benchmark.name}: {len(benchmark.samples)} questions"
    if limit is not None and limit < len(benchmark.samples):
        text += f", of which the first {limit}"
    if benchmark.invalid:
        text += f"; {len(benchmark.invalid)} cannot be asked: {benchmark.invalid[0].invalid}"
    return text


def _named(run_config: RunConfig, model: Model) -> str:
    """The name in the configuration, and what the answers really depend on."""
    identity = dict(model.identity)
    revision = str(identity.pop("revision", None) or "")[:12]
    known = [str(identity.pop("backend", "")), str(run_config.model.get("path", ""))]
    known += [f"({dtype})"] if (dtype := identity.pop("dtype", None)) else []
    known += [f"revision {revision}"] if revision else []
    return " ".join(filter(None, known))


def _conditions(plan: Plan) -> str:
    """Conditions in short, with the number of samples that those for one modality are asked on."""
    total = sum(1 for _ in plan.samples())
    severities: dict[str, list[str]] = {}
    for condition in plan.conditions:
        asked = total - plan.skipped[condition.name]
        name = condition.degradation or condition.name
        if asked < total:
            name += f" (on {asked} of {total} questions)"
        severities.setdefault(name, []).append(f"{condition.severity:g}")
    return "; ".join(
        name if values == ["0"] else f"{name} at {', '.join(values)}"
        for name, values in severities.items()
    )


def environment(plan: Plan, out: Path) -> dict[str, Any]:
    """Returns what a result depends on beside its configuration.

    Args:
        plan: What is asked.
        out: The run directory; it holds the plan's samples already.
    """
    with ThreadPoolExecutor(1) as aside:  # git is another process: it needs not be waited for
        revision = aside.submit(_git_revision)
        versions = {"python": platform.python_version(), "mmeval": mmeval.__version__}
        for package in _PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                versions[package] = "absent"
        return {
            "schema": 1,
            "versions": versions,
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "accelerators": _accelerators(),
            "model": dict(plan.identity),
            "data_sha256": plan.data_fingerprint(out / "samples.jsonl"),
            "git_revision": revision.result(),
        }


def _accelerators() -> list[str]:
    torch = sys.modules.get("torch")  # a backend that does not use torch needs no import of it
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _git_revision() -> str | None:
    """Returns the commit of the checkout that this code runs from, None when it is installed."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def with_report(run: Run) -> Path:
    """Writes the run's ``report.html``, unless nothing has changed, and returns its path."""
    from mmeval import report

    target = run.path / "report.html"
    if not (target.exists() and store.is_finished(run.path)):
        report.write([run.path], target)
        store.mark_finished(run.path)
    return target


def exceeded(run_config: RunConfig, errors: int, total: int) -> bool:
    """Whether more questions failed than the configuration tolerates."""
    allowed = run_config.fail_on_error
    return errors > (allowed * total if 0 < allowed < 1 else allowed)
