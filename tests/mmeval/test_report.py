"""The report and the table in the terminal."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mmeval import store
from mmeval.errors import MmevalError
from mmeval.report import render_examples, summary_table, write
from mmeval.report.examples import pick_flips, read_examples
from mmeval.report.figures import Point, reliability_chart, severity_chart
from mmeval.report.findings import findings, signed
from mmeval.report.results import Results
from mmeval.scoring import read_scores, score_run
from tests.mmeval.synthetic_run import (
    make_run,
    make_samples,
    read_jsonl,
    respond,
    write_jsonl,
    write_run,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored run without pictures at hand."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "run", n_images=40)
    score_run(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write([run]).read_text(encoding="utf-8")


class Links(HTMLParser):
    """Collects what a browser would fetch, and checks that elements are closed in order."""

    VOID = frozenset({"meta", "img", "hr", "br", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(text: str) -> Links:
    links = Links()
    links.feed(text)
    assert links.open == []
    return links


# --- The page -------------------------------------------------------------------------------------


def test_the_report_fetches_nothing_and_runs_nothing(page: str) -> None:
    links = parse(page)

    assert all(target.startswith(("data:image/png;base64,", "#")) for target in links.fetched)
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_report_shows_every_condition_with_its_interval(page: str, run: Path) -> None:
    rows = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["rows"]
    for row in rows:
        if row["metric"] == "accuracy" and row["by"] is None:
            assert f"{row['value']:.3f}<span" in page
            assert f"[{row['ci_low']:.2f}, {row['ci_high']:.2f}]" in page


def test_the_report_has_a_curve_for_each_degradation_and_two_reliability_diagrams(
    page: str,
) -> None:
    labels = re.findall(r'aria-label="([^"]*)"', page)

    assert sum("against severity" in label for label in labels) == 3
    assert next(label for label in labels if label.startswith("reliability")).endswith("clean")
    assert sum(label.startswith("reliability") for label in labels) == 2


def test_every_figure_is_well_formed(page: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)

    assert len(figures) > 20
    for figure in figures:
        ElementTree.fromstring(figure)


def test_failures_are_shown_with_their_reason(page: str) -> None:
    assert "out of memory" in page
    assert "1 failed and are in no figure" in page
    assert "1 were refused (counted as wrong)" in page
    assert "1 gave no readable answer (counted as wrong)" in page


def test_text_from_models_and_benchmarks_is_shown_and_not_run(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\"'&{{7*7}}"
    sample = make_samples(1)[0] | {
        "question": hostile,
        "options": [hostile, "right"],
        "answer": "B",
        "benchmark": hostile,
        "tags": {"task": hostile},
    }
    responses = [
        respond(sample, "clean", "B"),
        respond(sample, "general/jpeg:1", "A"),
        respond(sample, "general/jpeg:3", "", status="error", error=hostile),
    ]
    folder = write_run(tmp_path / "run", [sample], responses)
    score_run(folder)

    text = write([folder]).read_text(encoding="utf-8")

    parse(text)
    assert "<img src=x" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 5
    assert "{{7*7}}" in text


def test_two_runs_share_one_page(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", n_images=4, seed=1)
    score_run(other)

    target = write([run, other], tmp_path / "both.html")

    text = target.read_text(encoding="utf-8")
    parse(text)
    assert text.count("Key findings") == 2
    assert text.count('href="#r') == 2


def test_the_packaged_model_is_said_to_be_a_demonstration(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", n_images=4)
    score_run(folder)
    said = "Demonstration model."

    (folder / "config.yaml").write_text("model: {backend: transformers, path: phantom}\n")
    assert said in write([folder]).read_text(encoding="utf-8")

    (folder / "config.yaml").write_text("model: {backend: transformers, path: other/model}\n")
    assert said not in write([folder]).read_text(encoding="utf-8")


def test_a_run_of_errors_only_still_has_a_report(tmp_path: Path) -> None:
    samples = make_samples(1)
    responses = [respond(sample, "clean", "", status="error", error="gone") for sample in samples]
    folder = write_run(tmp_path / "run", samples, responses)
    score_run(folder)

    parse(write([folder]).read_text(encoding="utf-8"))


def test_a_run_that_was_not_scored_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", n_images=2)

    with pytest.raises(MmevalError, match="has not been scored"):
        write([folder])


# --- Findings -------------------------------------------------------------------------------------


def results_of(rows: list[dict[str, Any]]) -> Results:
    return Results(rows, [], "b")  # type: ignore[arg-type]


def made_row(metric: str, condition: str, value: float, width: float = 0.05) -> dict[str, Any]:
    degradation, _, severity = condition.partition(":")
    return {
        "benchmark": "b",
        "metric": metric,
        "value": value,
        "ci_low": value - width,
        "ci_high": value + width,
        "n": 100,
        "n_unparsed": 0,
        "n_refused": 0,
        "n_error": 0,
        "condition": condition,
        "degradation": degradation if severity else None,
        "severity": int(severity or 0),
        "by": None,
        "confidence": "option" if "confidence" in metric or "calibration" in metric else None,
    }


def degraded(condition: str, drop: float, confidence: float, width: float = 0.05) -> list[Any]:
    """Rows of a condition, given clean accuracy 0.9 and clean confidence 0.9."""
    return [
        made_row("accuracy", condition, 0.9 - drop),
        made_row("accuracy_clean", condition, 0.9),
        made_row("accuracy_drop", condition, drop, width),
        made_row("mean_confidence", condition, confidence),
        made_row("mean_confidence_clean", condition, 0.9),
        made_row("calibration_shift", condition, confidence - 0.9 + drop),
        made_row("calibration_shift_clean", condition, 0.0),
        made_row("calibration_shift_change", condition, confidence - 0.9 + drop),
    ]


@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [(0.88, "It hardly notices"), (0.7, "It notices only in part"), (0.5, "It notices:")],
)
def test_whether_it_notices_depends_on_the_confidence_it_gives_up(
    confidence: float, verdict: str
) -> None:
    rows = [made_row("accuracy", "clean", 0.9), *degraded("general/jpeg:5", 0.4, confidence)]

    said = findings(results_of(rows))

    assert said[0].startswith("general/jpeg:5 breaks it most: accuracy falls from 90 % [85, 95]")
    assert said[1].startswith(verdict)


def test_a_drop_whose_interval_includes_zero_is_not_called_one() -> None:
    rows = [made_row("accuracy", "clean", 0.9), *degraded("general/jpeg:5", 0.1, 0.9, width=0.2)]

    said = " ".join(findings(results_of(rows)))

    assert "No degradation lowers accuracy" in said
    assert "breaks it" not in said
    assert "notice" not in said


def test_a_large_uncertain_drop_does_not_outrank_a_sure_one() -> None:
    rows = [
        made_row("accuracy", "clean", 0.9),
        *degraded("general/jpeg:5", 0.30, 0.9, width=0.05),
        *degraded("ct/low_dose:5", 0.35, 0.9, width=0.30),
    ]

    assert results_of(rows).worst == "general/jpeg:5"


def test_a_degradation_that_costs_nothing_is_tolerated() -> None:
    rows = [
        made_row("accuracy", "clean", 0.9),
        *degraded("general/jpeg:5", 0.0, 0.9, width=0.01),
        *degraded("general/contrast_down:3", 0.4, 0.9),
    ]

    assert "It tolerates general/jpeg up to severity 5: less than 2 points lost." in findings(
        results_of(rows)
    )


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert [signed(value, 0) for value in (-0.4, 0.4, -1.2, 1.2)] == ["0", "0", "−1", "+1"]


# --- Figures --------------------------------------------------------------------------------------


def test_a_severity_chart_draws_higher_values_higher() -> None:
    points = [Point(0, 0.9, 0.8, 1.0, 10), Point(5, 0.4, 0.3, 0.5, 10)]

    figure = ElementTree.fromstring(severity_chart({"accuracy": points}, 0.25, "a < b"))

    marks = figure.findall(".//circle")
    assert next(mark.findtext("title") for mark in marks) == "accuracy 0.900 [0.80, 1.00], n = 10"
    assert float(marks[0].get("cy", "")) < float(marks[1].get("cy", ""))
    assert float(marks[0].get("cx", "")) < float(marks[1].get("cx", ""))
    assert figure.get("aria-label") == "a < b"


def test_a_reliability_stem_ends_on_the_diagonal() -> None:
    figure = ElementTree.fromstring(reliability_chart([0.9], [0.5], [20], "one bin"))

    stem = figure.find(".//line[@class='stem over']")
    diagonal = figure.find(".//line[@class='diagonal']")
    assert stem is not None
    assert diagonal is not None
    left, right, low, high = (float(diagonal.get(name, "")) for name in ("x1", "x2", "y1", "y2"))
    share = (float(stem.get("x1", "")) - left) / (right - left)
    assert share == pytest.approx(0.9, abs=1e-3)
    assert float(stem.get("y1", "")) == pytest.approx(low + share * (high - low), abs=0.2)


# --- Examples -------------------------------------------------------------------------------------


def test_flips_are_right_when_clean_wrong_when_degraded_and_confident_first(run: Path) -> None:
    flips = pick_flips(read_scores(run))

    assert len(flips) == 12
    assert all(flip.clean.correct and not flip.degraded.correct for flip in flips)
    assert all(flip.clean.sample == flip.degraded.sample for flip in flips)
    assert len({flip.degraded.cluster for flip in flips}) == 12
    assert {flip.degraded.degradation for flip in flips} == {
        "general/gaussian_noise",
        "general/gaussian_blur",
        "ct/low_dose",
    }
    wrong = [
        score.confidence["option"]
        for score in read_scores(run)
        if score.condition != "clean" and score.confidence and not score.correct
    ]
    assert flips[0].degraded.confidence["option"] >= np.quantile(wrong, 0.95)


@pytest.fixture
def run_with_images(tmp_path: Path) -> Path:
    """A run on 20 pictures of known brightness that lie where its configuration says."""
    root = tmp_path / "data"
    folder = make_run(tmp_path / "run", n_images=20)
    samples = read_jsonl(folder / "samples.jsonl")
    (root / "images").mkdir(parents=True)
    for number, sample in enumerate(samples):
        sample["images"][0].update(modality="photo", path=f"images/{number // 3:04d}.png")
        Image.new("L", (48, 32), 90).save(root / sample["images"][0]["path"])
    write_jsonl(folder / "samples.jsonl", samples)
    write_jsonl(
        root / "samples.jsonl",
        [{k: v for k, v in sample.items() if k != "benchmark"} for sample in samples],
    )
    for name in ("responses.jsonl", "requests.jsonl"):
        kept = [line for line in read_jsonl(folder / name) if "low_dose" not in line["condition"]]
        write_jsonl(folder / name, kept)
    (folder / "config.yaml").write_text(
        json.dumps(
            {
                "name": "run",
                "model": {"backend": "mock"},
                "benchmarks": [
                    {
                        "name": "phantom",
                        "reader": "jsonl",
                        "root": str(root),
                        "file": "samples.jsonl",
                    }
                ],
                "conditions": [
                    "clean",
                    "general/gaussian_noise:1,3,5",
                    "general/gaussian_blur:1,3,5",
                ],
            }
        ),
        encoding="utf-8",
    )
    score_run(folder)
    return folder


def test_examples_show_the_images_as_the_model_saw_them(run_with_images: Path) -> None:
    entries = render_examples(run_with_images)

    pictures = read_examples(run_with_images)
    assert entries == json.loads((run_with_images / "examples.json").read_text(encoding="utf-8"))
    assert sum(map(len, pictures.values())) == len(entries) == 24
    for (_, _, condition), paths in pictures.items():
        pixels = np.asarray(Image.open(paths[0]))
        assert pixels.shape == (32, 48)
        if condition == "clean":
            assert (pixels == 90).all()
        if "noise" in condition:
            assert pixels.std() > 1


def test_the_gallery_is_inside_the_page(run_with_images: Path) -> None:
    text = write([run_with_images]).read_text(encoding="utf-8")

    assert len(re.findall(r'<img src="data:image/png;base64,', text)) == 24
    assert "No pictures" not in text


def test_pictures_rendered_before_are_kept_when_the_images_are_gone(run_with_images: Path) -> None:
    write([run_with_images])
    data = run_with_images.parent / "data"
    data.rename(data.with_name("moved"))

    text = write([run_with_images]).read_text(encoding="utf-8")

    assert len(re.findall(r'<img src="data:image/png;base64,', text)) == 24


def test_without_images_the_report_says_why_it_has_no_pictures(page: str) -> None:
    assert "No pictures:" in page
    assert "config.yaml" in page


def test_examples_outside_the_run_are_not_embedded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    entry = {"benchmark": "b", "sample": "s", "condition": "clean", "image": "../secret.png"}
    store.write_atomic(folder / "examples.json", json.dumps([entry]))

    assert read_examples(folder) == {}


# --- The terminal ---------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_condition(run: Path) -> None:
    rows = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["rows"]

    lines = summary_table(rows).splitlines()

    assert lines[0] == "phantom"
    assert lines[1].split() == [
        *("degradation", "severity", "n", "accuracy", "calibration", "shift", "not", "answered")
    ]
    assert [line.split()[:2] for line in lines[2:4]] == [["clean", "0"], ["ct/low_dose", "1"]]
    assert len(lines) == 2 + 10


def test_the_table_shows_only_what_a_run_holds() -> None:
    rows = [made_row("accuracy", "clean", 0.5) | {"value": None, "n": 0, "n_error": 3}]

    line = summary_table(rows).splitlines()[-1]

    assert line.split() == ["clean", "0", "0", "-", "-", "3", "error"]
    assert summary_table([]) == ""
