"""The command line, as a person or a script meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmeval
from mmeval import cli, store

MakeQuestions = Callable[..., Path]
REPOSITORY = Path(mmeval.__file__).resolve().parent.parent


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}


def mmeval_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmeval.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)


def run_main(*arguments: object) -> int:
    return cli.main([*map(str, arguments)])


def loaded_by(code: str, cwd: Path) -> set[str]:
    script = f"{code}\nimport sys; print(*{{n.partition('.')[0] for n in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def config_file(questions: Path, **changes: Any) -> Path:
    data = {
        "model": {"backend": "mock"},
        "benchmarks": [
            {"name": "small", "reader": "jsonl", "root": ".", "file": questions.name},
        ],
        "conditions": ["clean", "general/gaussian_noise:3"],
    }
    path = questions.with_name("run.yaml")
    path.write_text(json.dumps(data | changes))
    return path


HEAVY = {"torch", "transformers", "numpy", "matplotlib", "scipy", "PIL", "pydicom"}


@pytest.mark.parametrize(
    "code",
    [
        "import mmeval",
        "from mmeval import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass",
        "from mmeval import cli\ncli.main(['list', 'protocols'])",
        "from mmeval import cli\ncli.main(['list', 'benchmarks'])",
        "from mmeval import cli\ncli.main(['list', 'degradations'])",
        "from mmeval import cli\ncli.main(['list', 'modalities'])",
    ],
)
def test_looking_around_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    assert not loaded_by(code, tmp_path) & HEAVY


def test_a_run_ends_with_a_table_a_report_and_exit_code_0(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    done = mmeval_process(
        "run", config_file(make_questions(8)), "--out", "out", "--limit", 6, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()
    assert table[0] == "small"
    assert [line.split()[:3] for line in table[2:4]] == [
        ["clean", "0", "6"],
        ["general/gaussian_noise", "3", "6"],
    ]
    assert done.stdout.rstrip().endswith(f"report: {Path('out/report.html')}")
    assert "asked 12 of 12" in done.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {
        *("config.yaml", "environment.json", "samples.jsonl", "requests.jsonl"),
        *("responses.jsonl", "scores.jsonl", "metrics.json", "report.html"),
    }


def test_ctrl_c_keeps_the_answers_and_the_same_command_asks_the_rest(
    make_questions: MakeQuestions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_file(make_questions(24), model={"backend": "mock", "delay_s": 0.2})
    command = [sys.executable, "-m", "mmeval.cli", "run", str(path), "--out", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    responses = tmp_path / "out" / "responses.jsonl"
    give_up = time.monotonic() + 120
    while not (responses.exists() and responses.stat().st_size):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command asks the rest" in said
    kept = responses.read_text().splitlines()
    assert 0 < len(kept) < 48

    path.write_text(path.read_text().replace("0.2", "0"))  # faster from here; not part of a key
    assert run_main("run", path, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert f"48: {len(kept)} answered before, {48 - len(kept)} to ask" in said
    lines = responses.read_text().splitlines()
    assert lines[: len(kept)] == kept
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 48


@pytest.fixture
def finished(make_questions: MakeQuestions, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    mmeval.evaluate("mock", str(make_questions(6)), ["clean"], out=out, progress=False)
    return out


def test_scoring_again_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (finished / name).read_bytes() for name in ("scores.jsonl", "metrics.json")}
    assert run_main("score", finished, "--json") == 0
    assert {name: (finished / name).read_bytes() for name in before} == before
    rows = json.loads(capsys.readouterr().out)
    assert rows == store.read_json(finished, "metrics.json")["rows"]


def test_a_report_may_cover_several_runs(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "both.html"
    assert run_main("report", finished, finished, "--out", target) == 0
    assert target.read_text().lstrip().lower().startswith("<!doctype html")


@pytest.mark.parametrize(("allowed", "code"), [(0, 1), (1, 0), (0.1, 1), (0.5, 0)])
def test_more_failures_than_tolerated_give_exit_code_1(
    make_questions: MakeQuestions,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    allowed: float,
    code: int,
) -> None:
    path = config_file(make_questions(4), conditions=["clean"], fail_on_error=allowed)
    script = tmp_path / "script.jsonl"
    script.write_text('{"sample": "q1", "error": "overloaded"}\n')
    got = run_main("run", path, "--set", f"model.script={script}", "--out", tmp_path / "out")
    assert got == code
    said = capsys.readouterr().err
    assert "1  q1 (clean): overloaded" in said
    assert ("fail_on_error allows" in said) == (code == 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quikstart"], "did you mean 'quickstart'"),
        (["run", "vqa-rad"], "root: say which folder holds testset.json"),
        (["run", "quickstart", "--set", "conditions=[blur:1]"], "cannot read 'blur:1'"),
        (["score", "nowhere"], "is it a run directory"),
        (["report", "nowhere"], "nowhere"),
        (["image", "nowhere.dcm"], "nowhere.dcm"),
        (["validate", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(*arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("mmeval: error: ")
    assert message in said[-1]


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_main("rum")
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("benchmarks", "vqa-rad"),
        ("degradations", "ct/low_dose"),
        ("modalities", "xray"),
        ("models", "backend transformers"),
        ("metrics", "calibration_shift"),
        ("protocols", "direct"),
    ],
)
def test_lists_name_and_describe(what: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("list", what, "--json") == 0
    found = {entry["name"]: entry["description"] for entry in json.loads(capsys.readouterr().out)}
    assert found[name]
    assert run_main("list", what) == 0
    assert name in capsys.readouterr().out


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 60), dtype=np.uint8)).save(path)
    return path


def test_an_image_is_described_and_written_as_a_model_sees_it(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seen.png"
    assert run_main("image", picture, "--modality", "xray", "--json", "--png", out) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["modality"], facts["domain"], facts["shape"]) == ("xray", "display", [1, 40, 60])
    grey = np.asarray(Image.open(picture))
    assert np.array_equal(np.asarray(Image.open(out)), np.stack([grey] * 3, axis=2))


def test_window_and_slice_have_options_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nibabel as nib

    volume = np.random.default_rng(0).normal(0, 500, (6, 5, 9)).astype(np.float32)
    path = tmp_path / "v.nii"
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    base = ("image", path, "--modality", "ct", "--json")
    assert run_main(*base, "--window", "lung", "--slice", "0.5") == 0
    short = json.loads(capsys.readouterr().out)
    assert run_main(*base, "--choice", "window=lung", "--choice", "slice=0.5") == 0
    assert short == json.loads(capsys.readouterr().out)
    assert short["choices"]["window"] == "lung -600/1500 (asked)"
    assert short["choices"]["slice"] == "4 of 9 (asked)"
    assert run_main(*base, "--choice", "slice=1", "--slice", "2") != 0
    assert "slice: is chosen twice" in capsys.readouterr().err


def test_degrading_is_seeded(picture: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"{i}.png" for i in range(3)]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        assert run_main("degrade", picture, out, "--degradation", "general/gaussian_noise:3",
                        "--seed", seed) == 0  # fmt: skip
    first, same, other = (np.asarray(Image.open(out)) for out in outs)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_what_degrade_writes_is_what_a_run_shows(
    make_questions: MakeQuestions, tmp_path: Path
) -> None:
    path = make_questions(1)
    seen: list[np.ndarray[Any, Any]] = []
    from mmeval.models.mock import MockModel

    model = MockModel(lambda request: seen.append(request.images[0]) or "yes")
    spec = "general/gaussian_noise:3"
    mmeval.evaluate(model, str(path), [spec], out=tmp_path / "out", seed=4, progress=False)
    picture, out = path.parent / "images" / "p0.png", tmp_path / "o.png"
    run_main("degrade", picture, out, "--modality", "photo", "--degradation", spec, "--seed", 4)
    assert np.array_equal(np.asarray(Image.open(out)), seen[0])


def test_pictures_are_not_written_with_loss(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.jpg"
    assert run_main("degrade", picture, out, "--degradation", "general/jpeg:1") == 2
    assert "written as .png, without loss" in capsys.readouterr().err


def test_phantoms_are_written_and_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("phantom", tmp_path / "p", "--seed", 3, "--n", 6) == 0
    assert run_main("validate", tmp_path / "p" / "samples.jsonl") == 0
    assert "samples: 6 questions" in capsys.readouterr().out


def test_validate_names_every_bad_record(
    make_questions: MakeQuestions, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_questions(3)
    path.write_text(path.read_text().replace('"q1"', '""') + "{broken\n")
    assert run_main("validate", path) == 2
    said = capsys.readouterr().out
    assert "samples.jsonl:2: id: is empty" in said
    assert "samples.jsonl:4: not JSON" in said
    assert "2 of the records cannot be asked" in said
