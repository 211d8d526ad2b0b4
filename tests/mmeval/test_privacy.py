"""Nothing leaves this machine but pixels and the question, and not the pixels that bear a name."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont

import mmeval
import modalities
from mmeval import phantom, privacy
from mmeval.models.mock import MockModel
from mmeval.models.openai import OpenAIModel
from mmeval.phantom import questions
from mmeval.phantom.anatomy import SCENES
from mmeval.phantom.files import display
from mmeval.schema import Request
from tests.mmeval.chat_server import ChatServer, serving

NAME, BORN = "QUIMBY^ZEBEDIAH", "19310704"


class Remote(MockModel):
    """Says that it is elsewhere, and remembers what it was sent."""

    remote = True
    allow_burned_in = False

    def __init__(self) -> None:
        super().__init__(script=self.remember)
        self.seen: list[Request] = []

    def remember(self, request: Request) -> None:
        self.seen.append(request)


def pictures(n: int = 60) -> list[np.ndarray[Any, Any]]:
    patients = {case.patient: display(case.patient) for case in questions.build(seed=5, n=n).cases}
    return list(patients.values())


def film() -> np.ndarray[Any, Any]:
    """A phantom radiograph, shown twice as large."""
    case = next(
        c for c in questions.build(seed=5, n=60).cases if SCENES[c.patient.scene].modality == "xray"
    )
    return cv2.resize(display(case.patient), (512, 512), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("scale", "grey"),
    [(0.4, 255), *((scale, grey) for scale in (0.5, 0.8, 1.2, 2.0) for grey in (0, 255))],
)
def test_a_burnt_in_name_is_seen_at_every_size(scale: float, grey: int) -> None:
    picture = np.full((512, 1024, 3), 128, np.uint8)
    picture[:, :512] = film()
    assert not privacy.seems_to_bear_text(picture)
    text = "DOE JANE 1961-03-04"
    thick = max(1, round(scale))
    cv2.putText(picture, text, (20, 490), cv2.FONT_HERSHEY_SIMPLEX, scale, (grey,) * 3, thick,
                cv2.LINE_AA)  # fmt: skip
    assert privacy.seems_to_bear_text(picture)
    upright = np.ascontiguousarray(picture.transpose(1, 0, 2)[:, ::-1])
    assert privacy.seems_to_bear_text(upright)


@pytest.mark.parametrize("size", [11, 14, 20, 32, 48])
def test_a_name_in_proportional_letters_is_seen(size: int) -> None:
    picture = Image.fromarray(film())
    ImageDraw.Draw(picture).text((8, 8), "Muster, Erika", font=ImageFont.load_default(size),
                                 fill=(230, 230, 230))  # fmt: skip
    assert privacy.seems_to_bear_text(np.asarray(picture))


def test_a_side_marker_is_no_name() -> None:
    picture = film()
    cv2.putText(picture, "R", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255,) * 3, 2)
    assert not privacy.seems_to_bear_text(picture)


def test_few_phantoms_are_taken_for_text() -> None:
    # Their glands are rings in rows, which is what OOOO looks like.
    flagged = [privacy.seems_to_bear_text(picture) for picture in pictures(120)]
    assert sum(flagged) / len(flagged) <= 0.15


def test_a_fundus_photograph_and_scans_pass() -> None:
    from pydicom import examples
    from skimage import data

    assert not privacy.seems_to_bear_text(data.retina())
    for path in (examples.get_path("ct"), examples.get_path("mr")):
        assert privacy.objection(modalities.load(path)) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (47, 48), (500, 2)])
def test_pictures_of_any_shape_are_looked_at(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert privacy.seems_to_bear_text(noise) in (True, False)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Four questions on two DICOM films; the first film says that it bears annotations."""
    phantom.write(tmp_path / "phantoms", seed=3, n=60)
    found = sorted((tmp_path / "phantoms" / "images").glob("*.dcm"))
    root = tmp_path / "films"
    root.mkdir()
    chest = [p for p in found if pydicom.dcmread(p, stop_before_pixels=True).Modality != "CT"][:2]
    for place, path in enumerate(chest):
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientBirthDate = NAME, BORN
        dataset.BurnedInAnnotation = "NO" if place else "YES"
        dataset.save_as(root / f"film{place}.dcm")
    lines = [
        {"id": f"q{i}", "question": f"Is finding {i} present?", "kind": "yes_no", "answer": "yes",
         "images": [{"path": f"film{i // 2}.dcm"}], "tags": {}, "chance": 0.5}
        for i in range(4)
    ]  # fmt: skip
    path = root / "samples.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


def ask(model: Any, samples: Path, out: Path) -> mmeval.Run:
    conditions = ["clean", "general/gaussian_noise:5"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the reader warns of the annotation
        return mmeval.evaluate(model, str(samples), conditions, out=out, progress=False)


def test_a_marked_image_is_not_sent_and_the_mend_is_said(films: Path, tmp_path: Path) -> None:
    model = Remote()
    run = ask(model, films, tmp_path / "run")
    assert {request.sample for request in model.seen} == {"q2", "q3"}
    refused = {r.error for r in run.responses if r.status == "error"}
    assert len(refused) == 1
    (reason,) = refused
    assert reason is not None
    assert reason.startswith("film0.dcm: its header says BurnedInAnnotation YES")
    assert "model.allow_burned_in=true" in reason
    assert NAME not in reason


def test_allowed_afterwards_only_the_refused_are_asked(films: Path, tmp_path: Path) -> None:
    ask(Remote(), films, tmp_path / "run")
    model = Remote()
    model.allow_burned_in = True
    run = ask(model, films, tmp_path / "run")
    assert {request.sample for request in model.seen} == {"q0", "q1"}
    assert {r.status for r in run.responses} == {"ok"}


@pytest.mark.filterwarnings("ignore:.*BurnedInAnnotation is YES")
def test_a_picture_with_text_is_refused_however_noisy_it_is_made(
    films: Path, tmp_path: Path
) -> None:
    for place in range(2):
        shown = np.ascontiguousarray(modalities.load(films.parent / f"film{place}.dcm").render())
        cv2.putText(shown, "DOE JANE", (10, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255,) * 3, 1)
        Image.fromarray(shown).save(films.parent / f"film{place}.png")
    text = films.read_text("utf-8").replace('.dcm"', '.png", "modality": "xray"')
    films.write_text(text, encoding="utf-8")
    model = Remote()
    run = ask(model, films, tmp_path / "run")
    assert model.seen == []
    assert all("seems to bear text" in str(r.error) for r in run.responses)


def test_a_model_on_this_machine_is_not_guarded(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert privacy.guard(MockModel()) is None
    with serving() as server:
        assert privacy.guard(OpenAIModel("served", server.url)) is None
        monkeypatch.setattr(privacy, "objection", lambda image: pytest.fail("looked at"))
        run = ask(OpenAIModel("served", server.url), films, tmp_path / "run")
    assert {r.status for r in run.responses} == {"ok"}


def leaves(value: object) -> list[str]:
    """Every key and every value of a request body, as text."""
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *leaves(item))]
    if isinstance(value, list):
        return [text for item in value for text in leaves(item)]
    return [str(value)]


def test_nothing_leaves_but_pixels_and_the_question(films: Path, tmp_path: Path) -> None:
    import base64
    import io

    with serving() as server:
        ask(OpenAIModel("served", server.url), films, tmp_path / "run")
        said = sent(server)
    assert NAME.encode() in (films.parent / "film1.dcm").read_bytes()
    for text in said:
        if text.startswith("data:"):
            head, _, data = text.partition(",")
            assert head == "data:image/png;base64"
            raw = base64.b64decode(data)
            picture = Image.open(io.BytesIO(raw))
            picture.load()
            # No text, time, EXIF or profile chunk: pixels alone.
            assert picture.info == {}
            chunks = {name for name in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME", b"iCCP")
                      if name in raw}  # fmt: skip
            assert chunks == set()
            text = raw.decode("latin-1")
        assert not any(secret in text for secret in (NAME, "QUIMBY", BORN, "film", str(tmp_path)))


def sent(server: ChatServer) -> list[str]:
    assert server.bodies
    headers = [text for each in server.headers for pair in each.items() for text in pair]
    return [*leaves(server.bodies), *headers]
