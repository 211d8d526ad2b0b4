"""What every degradation promises; the registry drives these tests, so new entries join them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

import degradations

NAMES = degradations.names()
PROFILES = [
    f"{name}@{profile}" for name in NAMES for profile in sorted(degradations.get(name).profiles)
]
#: Entries whose effect is tied to the pixel grid or to ray counts, by nature of what they model.
GRID_BOUND = {"general/gaussian_noise", "general/jpeg", "ct/low_dose"}
CT_WINDOW = (40.0, 400.0)
Pictures = dict[str, Tensor]


def batch_for(name: str, pictures: Pictures, head: Tensor, size: int = 64) -> Tensor:
    """A few small images of the kind that an entry takes."""
    entry = degradations.get(name)
    step = 256 // size
    if entry.domain == "hu":
        small = head[:, ::step, ::step]
        return torch.stack([small, small.flip(-1), small.roll(5, -2), small - 20])
    kinds = ("histology", "tissue") if entry.channels == 3 else ("retina", "histology")
    small = [pictures[kind][:, ::step, ::step] for kind in kinds]
    return torch.stack([small[0], small[1], small[0].flip(-1), small[1].flip(-2)])


def run(name: str, severity: float, pixels: Tensor, ids: list[str], seed: int = 0) -> Tensor:
    domain = degradations.get(name.partition("@")[0]).domain
    return degradations.apply(pixels, f"{name}:{severity:g}", domain=domain, ids=ids, seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_severity_zero_is_the_identity_bit_for_bit(
    name: str, pictures: Pictures, head: Tensor
) -> None:
    pixels = batch_for(name, pictures, head)
    out = run(name, 0, pixels, list("abcd"))
    assert torch.equal(out, pixels)
    assert out.data_ptr() != pixels.data_ptr()


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_left_alone_and_shape_type_and_range_are_kept(
    name: str, pictures: Pictures, head: Tensor
) -> None:
    pixels = batch_for(name, pictures, head)
    before = pixels.clone()
    for severity in (0.3, 5):
        out = run(name, severity, pixels, list("abcd"))
        assert torch.equal(pixels, before)
        assert (out.shape, out.dtype) == (pixels.shape, torch.float32)
        assert torch.isfinite(out).all()
        if degradations.get(name).domain == "display":
            assert out.min() >= 0
            assert out.max() <= 1


@pytest.mark.parametrize("name", NAMES)
@given(
    order=st.permutations(range(4)),
    cut=st.integers(1, 4),
    ids=st.lists(st.text(max_size=8), min_size=4, max_size=4),
    seed=st.integers(-(2**70), 2**70),
    severity=st.sampled_from([0.5, 2, 5]),
)
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_row_of_any_batch_is_the_image_alone_bit_for_bit(
    name: str,
    pictures: Pictures,
    head: Tensor,
    order: list[int],
    cut: int,
    ids: list[str],
    seed: int,
    severity: float,
) -> None:
    pixels = batch_for(name, pictures, head)
    rows = order[:cut]
    together = run(name, severity, pixels[rows], [ids[row] for row in rows], seed)
    for place, row in enumerate(rows):
        alone = run(name, severity, pixels[row : row + 1], [ids[row]], seed)
        assert torch.equal(together[place], alone[0])


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_and_threads_do_not_show(name: str, pictures: Pictures, head: Tensor) -> None:
    pixels = batch_for(name, pictures, head)[:1]
    plain = run(name, 3, pixels, ["a"])
    strided = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(name, 3, strided, ["a"]), plain)
    torch.set_num_threads(2)
    try:
        assert torch.equal(run(name, 3, pixels, ["a"]), plain)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("name", [n for n in NAMES if degradations.get(n).channels is None])
def test_gray_stays_gray_and_does_not_depend_on_how_many_channels_say_so(
    name: str, pictures: Pictures, head: Tensor
) -> None:
    pixels = batch_for(name, pictures, head)[:, :1]
    three = run(name, 3, pixels.expand(-1, 3, -1, -1), list("abcd"))
    assert torch.equal(three, run(name, 3, pixels, list("abcd")).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 20), (7, 50)])
def test_odd_and_tiny_images_work(name: str, size: tuple[int, int]) -> None:
    entry = degradations.get(name)
    pixels = torch.rand(1, entry.channels or 1, *size, generator=torch.Generator().manual_seed(0))
    if entry.domain == "hu":
        pixels = pixels * 2000 - 1000
    for severity in (1, 5):
        assert torch.isfinite(run(name, severity, pixels, ["a"])).all()


@pytest.mark.parametrize("name", NAMES)
def test_damage_vanishes_with_severity(name: str, pictures: Pictures, head: Tensor) -> None:
    """No jump at zero, save for the codec, which always rounds."""
    pixels = batch_for(name, pictures, head)
    change = run(name, 0.001, pixels, list("abcd")) - pixels
    scale = 2000.0 if degradations.get(name).domain == "hu" else 1.0
    typical = float(change.square().mean().sqrt()) / scale
    assert typical < (0.03 if name == "general/jpeg" else 1e-3)


def similarity(clean: Tensor, bad: Tensor) -> tuple[float, float]:
    """PSNR in dB and SSIM as Wang et al. 2004 define it, from (C, H, W) in [0, 1]."""
    a, b = (image.permute(1, 2, 0).numpy() for image in (clean, bad))
    ssim = structural_similarity(
        a,
        b,
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(peak_signal_noise_ratio(a, b, data_range=1.0)), float(ssim)


def suits(name: str, kind: str) -> bool:
    whitelist = degradations.get(name.partition("@")[0]).modalities
    return whitelist is None or kind in {"ct": ("ct",), "pathology": ("tissue", "histology")}.get(
        whitelist[0], ()
    )


@pytest.mark.parametrize("name", NAMES + PROFILES)
def test_damage_rises_with_every_level_on_every_picture(name: str, pictures: Pictures) -> None:
    short, _, profile = name.partition("@")
    entry = degradations.get(short)
    levels = range(1, entry.profile(profile or None).levels + 1)
    assume = CT_WINDOW if entry.domain == "hu" else None
    for kind, clean in pictures.items():
        if not suits(name, kind):
            continue
        damage = []
        for level in levels:
            bad = degradations.apply(
                clean[None],
                f"{name}:{level}",
                domain="display",
                ids=[kind],
                seed=0,
                assume_window=assume,
            )
            damage.append(similarity(clean, bad[0]))
        psnr, ssim = zip(*damage, strict=True)
        assert list(psnr) == sorted(set(psnr), reverse=True), (kind, psnr)
        assert list(ssim) == sorted(set(ssim), reverse=True), (kind, ssim)


@pytest.mark.parametrize("name", NAMES)
def test_level_one_is_mild_and_level_five_severe(name: str, pictures: Pictures) -> None:
    assume = CT_WINDOW if degradations.get(name).domain == "hu" else None
    for kind, clean in pictures.items():
        if not suits(name, kind):
            continue
        psnr = {
            level: similarity(
                clean,
                degradations.apply(
                    clean[None],
                    f"{name}:{level}",
                    domain="display",
                    ids=[kind],
                    seed=0,
                    assume_window=assume,
                )[0],
            )[0]
            for level in (1, 5)
        }
        assert psnr[1] > 20, (kind, psnr)
        assert psnr[5] < 29, (kind, psnr)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in GRID_BOUND])
def test_damage_does_not_depend_on_resolution(
    name: str, radiograph: Callable[[int], Tensor], tissue_at: Callable[[int], Tensor]
) -> None:
    """SSIM of the same scene at 256 and 512, both looked at with 256 pixels."""
    make = tissue_at if degradations.get(name).channels == 3 else radiograph
    seen = []
    for size in (256, 512):
        clean = make(size)
        bad = run(name, 3, clean[None], ["a"])[0]
        shrink = torch.nn.AvgPool2d(size // 256)
        seen.append(similarity(shrink(clean), shrink(bad))[1])
    assert seen[0] == pytest.approx(seen[1], abs=0.02)
