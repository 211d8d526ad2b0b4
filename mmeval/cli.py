"""The command line. Every command is one function of the Python interface."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mmeval.errors import MmevalError, is_plain

if TYPE_CHECKING:
    from mmeval.config import RunConfig
    from mmeval.store import Row

__all__ = ["main"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_ABOUT = """\
Evaluate medical vision-language models on clean and degraded images.

  mmeval demo                                   everything once, offline, in some minutes
  mmeval run CONFIG --set model=FOLDER          ask a model; run it again to go on
  mmeval list degradations                      what can be done to an image

Exit codes: 0 all asked and scored, 1 finished but too many questions failed (fail_on_error),
2 wrong usage or configuration, 130 interrupted (run again to go on).
"""

_RUN = """\
examples:
  mmeval run quickstart --limit 20
  mmeval run phantom --set model=FOLDER --set n=1000 --set "conditions=[clean, 'general/jpeg:3']"
  mmeval run configs/benchmarks/vqa-rad.yaml --set root=FOLDER --set model.batch_size=8

CONFIG is a YAML file or the name of a packaged one (mmeval list benchmarks). A run is kept in its
directory as it goes: stopped at any point, the same command asks only what is missing.
"""


def _parser() -> argparse.ArgumentParser:
    import mmeval

    parser = argparse.ArgumentParser(
        prog="mmeval", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"mmeval {mmeval.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], summary: str, epilog: str = ""
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=textwrap.dedent(epilog),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        return made

    demo = command(
        "demo", _demo, "ask the packaged model about packaged images, clean and degraded"
    )
    _run_options(demo)
    run = command("run", _run, "ask a model a benchmark's questions, score and report", _RUN)
    run.add_argument("config", metavar="CONFIG", help="YAML file or packaged name")
    _run_options(run)
    score = command("score", _score, "score a run's stored answers again, without asking")
    score.add_argument("directory", metavar="RUN", type=Path)
    score.add_argument("--json", action="store_true", help="print the rows of metrics.json")
    report = command("report", _report, "write one HTML report over runs")
    report.add_argument("directories", metavar="RUN", type=Path, nargs="+")
    report.add_argument("--out", type=Path, help="file (default: report.html in the first run)")
    shown = command("list", _list, "list what there is")
    shown.add_argument("what", choices=sorted(_LISTS))
    shown.add_argument("--json", action="store_true")
    image = command(
        "image",
        _image,
        "say what an image file holds and how it would be shown",
        """\
        examples:
          mmeval image chest.dcm
          mmeval image head.nii.gz --modality ct --window brain --slice 0.5 --png o.png
        """,
    )
    image.add_argument("file", metavar="FILE", type=Path, help="image file, or folder of a series")
    image.add_argument("--json", action="store_true")
    image.add_argument("--png", metavar="OUT", type=Path, help="write what a model would see")
    _image_options(image)
    degrade = command(
        "degrade",
        _degrade,
        "degrade an image or a folder of them, or show all severities on one sheet",
        """\
        examples:
          mmeval degrade chest.dcm worse.png --degradation general/gaussian_noise:3
          mmeval degrade head.nii.gz worse.png --modality ct --choice slice=12 \\
              --degradation ct/low_dose:4+general/jpeg:2
          mmeval degrade films/ films-noisy/ --degradation general/shot_noise:2 --seed 7
          mmeval degrade chest.dcm sheet.png --grid
          mmeval degrade chest.dcm sheet.png --grid --degradation 'general/*_blur'

        A folder is degraded file by file; OUT gets degraded.jsonl with every number used. The
        random numbers of an image depend on its bytes and the seed alone, so a picture can be made
        again at any time. `mmeval list degradations` names them all.
        """,
    )
    degrade.add_argument("file", metavar="IN", type=Path, help="image file, or a folder")
    degrade.add_argument("out", metavar="OUT", type=Path, help="a .png file; a folder for a folder")
    degrade.add_argument(
        "--degradation",
        metavar="SPEC",
        action="append",
        default=[],
        help="NAME:SEVERITY, several joined by +; with --grid a name or pattern, may be repeated",
    )
    degrade.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    degrade.add_argument(
        "--grid",
        action="store_true",
        help="a contact sheet: degradations in rows, severities in columns, PSNR and SSIM",
    )
    degrade.add_argument(
        "--series", action="store_true", help="IN is the folder of one series, not of many images"
    )
    _image_options(degrade)
    phantom = command("phantom", _phantom, "write simulated images and their questions")
    phantom.add_argument("out", metavar="OUT", type=Path, help="an empty or new folder")
    phantom.add_argument("--seed", type=int, default=0)
    phantom.add_argument("--n", type=int, default=100, help="number of questions (default 100)")
    validate = command("validate", _validate, "check a configuration or a samples.jsonl")
    validate.add_argument("config", metavar="CONFIG_OR_DATA")
    _set_option(validate)
    return parser


def _set_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="K=V",
        dest="overrides",
        help="change a key of the configuration; dots lead inside; may be repeated",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    _set_option(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="first N samples of each benchmark")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run directory (default runs/NAME)")


def _image_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--modality", help="how it was made (default: what the file says)")
    parser.add_argument(
        "--choice",
        action="append",
        default=[],
        metavar="K=V",
        help="slice=12, window=brain, mpp=1.0, ...; may be repeated",
    )
    parser.add_argument("--window", metavar="W", help="short for --choice window=W, e.g. lung")
    parser.add_argument("--slice", metavar="S", help="short for --choice slice=S, e.g. 12 or 0.5")
    parser.add_argument("--size", type=int, help="longest edge of the picture, in pixels")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _demo(args: argparse.Namespace) -> int:
    args.config = "quickstart"
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    from mmeval import config

    run_config = config.load(args.config, args.overrides, out=args.out, limit=args.limit)
    return _execute(run_config)


def _execute(run_config: RunConfig) -> int:
    from mmeval.runs import exceeded, execute, with_report

    run, outcome = execute(run_config, say=_say)
    if outcome.interrupted:
        _say(f"interrupted; the answers are kept in {run.path}: the same command asks the rest")
        return INTERRUPTED
    if outcome.errors:
        _say(_failures(outcome.errors))
    target = with_report(run)
    print(run.table())
    print(f"\nreport: {target}")
    failed = sum(response.status == "error" for response in run.responses)
    if exceeded(run_config, failed, len(run.responses)):
        _say(
            f"{failed} of {len(run.responses)} questions failed; fail_on_error allows "
            f"{run_config.fail_on_error:g}. Run again to ask them again."
        )
        return FAILED
    return OK


def _failures(errors: Mapping[Row, str]) -> str:
    """Returns a table of what failed: how often, why, and one example."""
    first = {reason: row for row, reason in reversed([*errors.items()])}
    lines = ["failed:"]
    for reason, count in Counter(errors.values()).most_common(10):
        row = first[reason]
        lines.append(f"  {count:6d}  {row.sample} ({row.condition}): {reason[:200]}")
    if len(first) > 10:
        lines.append(f"  ... and {len(first) - 10} other reasons; see responses.jsonl")
    return "\n".join(lines)


def _score(args: argparse.Namespace) -> int:
    from mmeval import scoring
    from mmeval.runs import Run

    scoring.score_run(args.directory)
    run = Run(args.directory)
    print(json.dumps(run.metrics) if args.json else run.table())
    return OK


def _report(args: argparse.Namespace) -> int:
    from mmeval import report

    target = args.out or args.directories[0] / "report.html"
    report.write(args.directories, target)
    print(target)
    return OK


def _benchmarks() -> dict[str, str]:
    from mmeval import config

    return {
        name: f"{spec.get('source', '')}, {spec.get('licence', 'licence not stated')}"
        for name, spec in config.walk_benchmarks()
    }


def _degradations() -> dict[str, str]:
    import degradations

    found = {}
    for name in degradations.names(volumes=True):
        entry = degradations.get(name)
        where = ", ".join(entry.modalities) if entry.modalities else "any modality"
        found[name] = f"{entry.description} ({where}; in the domain {entry.domain})"
    return found


def _modalities() -> dict[str, str]:
    import modalities

    return dict(modalities.names())


def _models() -> dict[str, str]:
    from mmeval import config, models

    packaged = {}
    for name in config.names("models"):
        spec = config.resolve(name, "models")
        packaged[name] = f"{spec.get('description', 'no description')} ({spec['backend']})"
    return packaged | {f"backend {name}": text for name, (_, text) in models.BACKENDS.items()}


def _metrics() -> dict[str, str]:
    from mmeval.metrics.aggregate import METRICS

    return dict(METRICS)


def _protocols() -> dict[str, str]:
    from mmeval import protocols

    return {name: protocol.description for name, protocol in protocols.PROTOCOLS.items()}


_LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "benchmarks": _benchmarks,
    "degradations": _degradations,
    "modalities": _modalities,
    "models": _models,
    "metrics": _metrics,
    "protocols": _protocols,
}


def _list(args: argparse.Namespace) -> int:
    found = _LISTS[args.what]()
    if args.json:
        print(json.dumps([{"name": n, "description": text} for n, text in found.items()]))
    else:
        width = max(map(len, found), default=0)
        for name, text in found.items():
            print(f"{name:{width}}  {text}")
    return OK


def _reference(args: argparse.Namespace) -> Any:  # noqa: ANN401
    import yaml

    from mmeval.schema import ImageRef

    choices = {}
    short = [f"{key}={getattr(args, key)}" for key in ("window", "slice") if getattr(args, key)]
    for text in (*args.choice, *short):
        key, sign, value = text.partition("=")
        if not sign:
            raise MmevalError(f"--choice {text}: write --choice key=value")
        if key in choices:
            raise MmevalError(f"{key}: is chosen twice; give it once")
        choices[key] = yaml.safe_load(value)
    return ImageRef(str(args.file), args.modality, choices)


def _image(args: argparse.Namespace) -> int:
    from mmeval.running import render

    image = render.load(args.file, _reference(args))
    facts: dict[str, Any] = {
        "modality": image.modality,
        "domain": image.domain,
        "shape": list(image.pixels.shape),
        "range": [float(image.pixels.min()), float(image.pixels.max())],
        "spacing_mm": image.spacing_mm and list(image.spacing_mm),
        "window": image.window and image.window.describe(),
        **image.provenance,
    }
    if args.json:
        print(json.dumps(facts))
    else:
        for key, value in facts.items():
            print(f"{key:12} {value}")
    if args.png:
        from mmeval.sweep import write_png

        write_png(args.png, image.render(args.size))
    return OK


def _degrade(args: argparse.Namespace) -> int:
    from mmeval import sweep

    reference = _reference(args)
    how: dict[str, Any] = {
        "modality": args.modality,
        "choices": dict(reference.choices),
        "seed": args.seed,
    }
    folder = args.file.is_dir() and not args.series
    if args.grid:
        if folder:
            raise MmevalError(f"{args.file}: --grid shows one image; name a file, or add --series")
        how |= {"tile": args.size} if args.size else {}
        sweep.write_png(args.out, sweep.contact_sheet(args.file, args.degradation, **how))
        print(args.out)
        return OK
    if len(args.degradation) != 1:
        raise MmevalError("--degradation: give one spec; join several steps with '+'")
    spec, how["size"] = args.degradation[0], args.size
    if not folder:
        sweep.degrade_file(args.file, args.out, spec, **how)
        print(args.out)
        return OK
    written, failures = sweep.degrade_folder(args.file, args.out, spec, **how)
    print(f"{args.out}: {len(written)} pictures and {sweep.MANIFEST}")
    if failures:
        _say(f"failed: {len(failures)} of {len(written) + len(failures)}")
        for name, reason in failures.items():
            _say(f"  {name}: {reason[:300]}")
        return FAILED
    return OK


def _phantom(args: argparse.Namespace) -> int:
    from mmeval import phantom

    print(phantom.write(args.out, seed=args.seed, n=args.n, progress=True))
    return OK


def _validate(args: argparse.Namespace) -> int:
    import tempfile

    from mmeval import benchmarks, config

    source: Any = args.config
    if args.config.endswith(".jsonl"):
        source = {"name": Path(args.config).stem, "benchmarks": [args.config]}
    run_config = config.load(source, args.overrides)
    bad = 0
    for spec in run_config.benchmarks:
        with tempfile.TemporaryDirectory() as folder:
            benchmark = benchmarks.load(spec, Path(folder) / "data")
        kinds = Counter(sample.kind for sample in benchmark.samples if sample.invalid is None)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        print(f"{benchmark.name}: {len(benchmark.samples)} questions ({counts})")
        for sample in benchmark.invalid:
            print(f"  {sample.invalid}")
        bad += len(benchmark.invalid)
    print(f"{bad} of the records cannot be asked" if bad else "ok")
    return USAGE if bad else OK


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say(f"warning: {message}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Arguments, those of the process by default.

    Returns:
        The exit code.
    """
    args = _parser().parse_args(argv)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported
    warnings.showwarning = _show_warning
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        if args.debug or not (is_plain(error) or isinstance(error, OSError)):
            raise
        _say(f"mmeval: error: {error}")
        return USAGE
    return code


if __name__ == "__main__":
    sys.exit(main())
