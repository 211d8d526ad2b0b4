"""Random fields: the right distribution, and a function of key and position alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from degradations import kernels, random_fields
from degradations.keys import Key

KEY = Key(seed=7, image="study/1", degradation="general/gaussian_noise")


def python_hash(counter: int, low: int, high: int) -> int:
    """triple32 with the key between its rounds, in Python's unbounded integers."""
    mask = 0xFFFFFFFF
    x = counter ^ low
    x ^= x >> 17
    x = (x * 0xED5AD4BB + high) & mask
    x ^= x >> 11
    x = (x * 0xAC4C1B51) & mask
    x ^= x >> 15
    x = (x * 0x31848BAB) & mask
    return x ^ x >> 14


def test_the_integer_arithmetic_is_that_of_unsigned_32_bit_words() -> None:
    low, high = KEY.words("s")
    field = random_fields.uniform(KEY, "s", (1000,), "cpu")
    expected = [((python_hash(i, low, high) >> 9) + 0.5) / 2**23 for i in range(1000)]
    assert field.tolist() == expected


def test_a_normal_value_is_the_normal_quantile_of_16_bits() -> None:
    low, high = KEY.words("s")
    field = random_fields.normal(KEY, "s", (2000,), "cpu")
    words = np.array([python_hash(i, low, high) for i in range(1000)], dtype="<u4")
    bins = words.view("<i2").astype(np.int64) + 2**15
    centres = stats.norm.ppf((bins + 0.5) / 2**16)
    inner = np.abs(centres) < 3.0
    assert np.abs(field.numpy() - centres)[inner].max() < 5e-4


def test_normal_moments_and_distribution() -> None:
    field = random_fields.normal(KEY, "s", (3, 700, 700), "cpu").double().flatten().numpy()
    count = field.size
    assert abs(field.mean()) < 4 / count**0.5
    assert abs(field.std() - 1) < 4 / (2 * count) ** 0.5
    assert abs(stats.skew(field)) < 4 * (6 / count) ** 0.5
    assert abs(stats.kurtosis(field)) < 4 * (24 / count) ** 0.5
    assert stats.kstest(field, "norm").pvalue > 1e-3


def test_the_spectrum_of_normal_noise_is_flat() -> None:
    field = random_fields.normal(KEY, "s", (512, 512), "cpu").double().numpy()
    power = np.abs(np.fft.rfft2(field)[1:256, 1:256]) ** 2 / field.size
    assert stats.kstest(power.ravel(), "expon").pvalue > 1e-3


def test_uniform_distribution() -> None:
    field = random_fields.uniform(KEY, "s", (500_000,), "cpu").double().numpy()
    assert field.min() > 0
    assert field.max() < 1
    assert stats.kstest(field, "uniform").pvalue > 1e-3


def test_neighbouring_seeds_ids_names_and_streams_are_uncorrelated() -> None:
    keys = [
        Key(seed, f"{image}", "d", n) for seed in range(6) for image in range(6) for n in (0, 1)
    ]
    fields = [random_fields.normal(key, s, (4096,), "cpu") for key in keys for s in ("a", "b")]
    correlation = torch.corrcoef(torch.stack(fields)).fill_diagonal_(0)
    # 10296 pairs: the largest of as many normals stays below 5 standard errors.
    assert correlation.abs().max() < 5 / 4096**0.5


def test_every_part_of_a_key_changes_the_words() -> None:
    base = ("ab", "c", "d")
    keys = [
        Key(0, *base[:2]),
        Key(1, *base[:2]),
        Key(0, "a", "bc"),
        Key(0, "ab", "c", 1),
        Key(0, "abc", ""),
    ]
    words = [key.words(stream) for key in keys for stream in ("", "d")]
    assert len(set(words)) == len(words)
    assert all(a != b for a, b in itertools.combinations([w[0] for w in words], 2))


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), chunk=st.integers(1, 500))
@settings(max_examples=30, deadline=None)
def test_chunks_do_not_show(rows: int, columns: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole_normal = random_fields.normal(KEY, "s", (rows, columns), "cpu")
        whole_uniform = random_fields.uniform(KEY, "s", (rows, columns), "cpu")
        patch.setattr(kernels, "compiled", lambda: False)
        patch.setattr(random_fields, "_CPU_CHUNK", chunk)
        assert torch.equal(random_fields.normal(KEY, "s", (rows, columns), "cpu"), whole_normal)
        assert torch.equal(random_fields.uniform(KEY, "s", (rows, columns), "cpu"), whole_uniform)


def test_one_channel_of_noise_is_the_first_of_three() -> None:
    three = random_fields.normal(KEY, "s", (3, 31, 17), "cpu")
    assert torch.equal(random_fields.normal(KEY, "s", (1, 31, 17), "cpu"), three[:1])


@pytest.mark.parametrize("rate", [0.01, 0.5, 3.0, 12.0, 31.9, 32.1, 60.0, 400.0])
def test_poisson_counts_follow_the_poisson_law(rate: float) -> None:
    count = 200_000
    counts = random_fields.poisson(KEY, "s", torch.full((count,), rate)).numpy()
    assert counts.mean() == pytest.approx(rate, abs=4 * (rate / count) ** 0.5)
    spread = rate * (2 / count + 1 / (rate * count)) ** 0.5
    assert counts.var() == pytest.approx(rate, abs=4 * spread + 2e-3 * rate)
    values = np.arange(counts.max() + 1)
    empirical = np.searchsorted(np.sort(counts), values, side="right") / count
    assert np.abs(empirical - stats.poisson.cdf(values, rate)).max() < 1.95 / count**0.5 + 4e-4


def test_poisson_of_nothing_is_nothing() -> None:
    assert random_fields.poisson(KEY, "s", torch.zeros(1000)).abs().max() == 0


def test_poisson_is_exact_where_it_says_so() -> None:
    """Every count is the smallest whose cumulative probability reaches its uniform number."""
    low, high = KEY.words("s")
    rates = np.linspace(0.0, random_fields.POISSON_EXACT_BELOW, 500, endpoint=False)
    counts = random_fields.poisson(KEY, "s", torch.from_numpy(rates)).numpy()
    levels = [(python_hash(i, low, high) + 0.5) / 2**32 for i in range(500)]
    assert counts.tolist() == stats.poisson.ppf(levels, rates).tolist()


def test_the_expansion_above_is_within_its_stated_error() -> None:
    z = torch.linspace(-6, 6, 100_001, dtype=torch.float64)
    for rate in (random_fields.POISSON_EXACT_BELOW, 64.0, 1000.0):
        counts = random_fields.expand_poisson(z, torch.full_like(z, rate)).numpy()
        values = np.unique(counts)
        reached = np.array([stats.norm.cdf(z.numpy()[counts <= v].max()) for v in values[:-1]])
        assert np.abs(reached - stats.poisson.cdf(values[:-1], rate)).max() < 4e-4


def test_the_bits_of_words_are_fair_and_their_bytes_uniform() -> None:
    words = random_fields.words(KEY, "s", 1 << 18, "cpu").numpy()
    ones = np.array([int((words >> bit & 1).sum()) for bit in range(32)])
    chi_square = ((ones - len(words) / 2) ** 2 / (len(words) / 4)).sum()
    assert stats.chi2.sf(chi_square, 32) > 1e-3
    for shift in (0, 8, 16, 24):
        counts = np.bincount(words >> shift & 255, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(3, 37, 41), (1, 1, 1), (2, 100, 333), (0, 4)])
def test_compiled_fields_have_the_bits_of_tensor_fields(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fields() -> list[torch.Tensor]:
        made = [
            draw(KEY, "s", shape, "cpu") for draw in (random_fields.normal, random_fields.uniform)
        ]
        made.append(random_fields.words(KEY, "s", 5000, "cpu"))
        if shape[0]:
            made.append(random_fields.smooth(KEY, "s", shape, 0.13, "cpu"))
        return made

    assert kernels.compiled()
    compiled = fields()
    monkeypatch.setattr(kernels, "compiled", lambda: False)
    assert all(torch.equal(a, b) for a, b in zip(compiled, fields(), strict=True))


def test_smooth_noise_is_normal_with_unit_variance_everywhere() -> None:
    fields = random_fields.smooth(KEY, "s", (4000, 24, 40), 0.1, "cpu")
    spread = fields.var(dim=0)
    assert spread.min() > 1 - 5 * (2 / 4000) ** 0.5
    assert spread.max() < 1 + 5 * (2 / 4000) ** 0.5
    assert fields.mean(dim=0).abs().max() < 5 / 4000**0.5
    assert stats.kstest(fields[:, 12, 20].numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("correlation", [0.05, 0.2])
def test_smooth_noise_loses_correlation_at_the_stated_distance(correlation: float) -> None:
    side = 200
    lag = round(correlation * side)
    fields = random_fields.smooth(KEY, "s", (3000, 4, side), correlation, "cpu").double()
    found = float((fields[..., :-lag] * fields[..., lag:]).mean())
    assert found == pytest.approx(np.exp(-1), abs=0.02)


def test_smooth_noise_is_the_same_field_at_any_resolution() -> None:
    large = random_fields.smooth(KEY, "s", (192, 256), 0.2, "cpu")
    small = random_fields.smooth(KEY, "s", (48, 64), 0.2, "cpu")
    shrunk = torch.nn.functional.avg_pool2d(large[None, None], 4)[0, 0]
    assert float((shrunk - small).abs().max()) < 0.01


def test_smooth_noise_needs_a_correlation() -> None:
    with pytest.raises(ValueError, match="positive"):
        random_fields.smooth(KEY, "s", (8, 8), 0.0, "cpu")


@given(cells=st.integers(1, 300), data=st.data())
@settings(max_examples=40, deadline=None)
def test_positions_are_different_and_nested(cells: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, cells))
    most = random_fields.positions(KEY, "s", cells, cells, "cpu")
    assert sorted(most.tolist()) == list(range(cells))
    assert torch.equal(random_fields.positions(KEY, "s", count, cells, "cpu"), most[:count])


def test_positions_are_uniform() -> None:
    first = [
        int(random_fields.positions(Key(0, str(i), "d"), "s", 1, 10, "cpu")) for i in range(1000)
    ]
    assert stats.chisquare(np.bincount(first, minlength=10)).pvalue > 1e-3


def test_more_positions_than_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="cells"):
        random_fields.positions(KEY, "s", 5, 4, "cpu")


def test_scalar_draws_are_uniform() -> None:
    draws = [Key(0, str(image), "d").uniform("angle") for image in range(3000)]
    assert stats.kstest(draws, "uniform").pvalue > 1e-3


def test_the_published_bits_do_not_move() -> None:
    """Changing these numbers changes every noisy result: raise the versions of the entries."""
    assert KEY.words("noise") == (2146904714, 2864800990)
    field = random_fields.normal(KEY, "noise", (4,), "cpu")
    assert field.tolist() == pytest.approx([0.0470817, 0.1653513, 0.2575321, 0.4804965], abs=1e-6)
