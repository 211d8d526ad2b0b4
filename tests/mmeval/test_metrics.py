"""Metric functions against hand-worked examples and independent implementations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from mmeval import metrics

ANSWERS = st.lists(
    st.tuples(st.floats(0, 1, allow_subnormal=False), st.integers(0, 1)), min_size=1, max_size=60
)


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """400 over-confident answers, none of them exactly at a bin edge."""
    generator = np.random.default_rng(3)
    confidence = generator.beta(6, 2, 400)
    return confidence, (generator.random(400) < confidence**2).astype(int)


# --- Calibration error ----------------------------------------------------------------------------


def test_confidence_one_shares_the_last_bin() -> None:
    # 50 certain answers, 80 % right, and 50 at 0.95, all right: one bin of 100 with mean confidence
    # 0.975 and accuracy 0.9. A bin of its own for 1.0 would give 0.125.
    confidence = [1.0] * 50 + [0.95] * 50
    correct = [1] * 40 + [0] * 10 + [1] * 50

    assert metrics.expected_calibration_error(confidence, correct) == pytest.approx(0.075)


def test_equal_width_agrees_with_torchmetrics_where_nothing_is_certain(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    confidence, correct = answers
    for n_bins in (5, 15, 40):
        expected = binary_calibration_error(
            torch.tensor(confidence), torch.tensor(correct), n_bins=n_bins, norm="l1"
        )
        found = metrics.expected_calibration_error(confidence, correct, n_bins)
        assert found == pytest.approx(float(expected), abs=1e-6)


def test_equal_mass_bins_hold_equally_many_samples() -> None:
    # Sorted by confidence: (.1 wrong, .2 right) and (.6 right, .9 wrong); gaps |.15-.5|, |.75-.5|.
    confidence, correct = [0.9, 0.1, 0.6, 0.2], [0, 0, 1, 1]

    found = metrics.expected_calibration_error(confidence, correct, n_bins=2, strategy="mass")

    assert found == pytest.approx((0.35 + 0.25) / 2)


def test_equal_mass_bins_differ_by_at_most_one_sample(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    curve = metrics.reliability_curve(*answers, n_bins=7, strategy="mass")

    assert curve.count.sum() == 400
    assert curve.count.max() - curve.count.min() <= 1


@pytest.mark.parametrize("strategy", ["width", "mass"])
@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([1.0, 1.0], [1, 1], 0.0),
        ([0.0, 0.0], [0, 0], 0.0),
        ([1.0, 1.0], [0, 0], 1.0),
        ([0.0, 0.0], [1, 1], 1.0),
        ([0.5], [1], 0.5),
    ],
)
def test_calibration_error_at_the_ends(
    strategy: str, confidence: list[float], correct: list[int], expected: float
) -> None:
    found = metrics.expected_calibration_error(confidence, correct, strategy=strategy)  # type: ignore[arg-type]

    assert found == expected


@given(ANSWERS, st.sampled_from(["width", "mass"]), st.integers(1, 20))
def test_calibration_error_lies_between_the_shift_and_one(
    answers: list[tuple[float, int]], strategy: str, n_bins: int
) -> None:
    confidence, correct = zip(*answers, strict=True)

    error = metrics.expected_calibration_error(confidence, correct, n_bins, strategy)  # type: ignore[arg-type]

    assert abs(metrics.calibration_shift(confidence, correct)) <= error + 1e-9
    assert error <= 1 + 1e-9


def test_one_bin_makes_calibration_error_the_absolute_shift(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    error = metrics.expected_calibration_error(*answers, n_bins=1)

    assert error == pytest.approx(abs(metrics.calibration_shift(*answers)))


def test_brier_score_is_the_mean_squared_error(answers: tuple[np.ndarray, np.ndarray]) -> None:
    confidence, correct = answers
    expected = torch.nn.functional.mse_loss(
        torch.tensor(confidence), torch.tensor(correct, dtype=torch.float64)
    )

    assert metrics.brier_score(confidence, correct) == pytest.approx(float(expected))


# --- Voting confidence: the worked example of MedQ-Deg's definition -------------------------------


@pytest.mark.parametrize(
    ("votes", "n_options", "confidence"),
    [
        ("A" * 10, 4, 1.0),
        ("B" * 7 + "A" * 3, 4, 0.559355),
        ("C" * 5 + "D" * 5, 4, 0.5),
        ("A" * 8 + "B" + "E", 5, 0.602947),
        ("ABCD", 4, 0.0),
    ],
)
def test_voting_confidence_is_one_minus_normalised_entropy(
    votes: str, n_options: int, confidence: float
) -> None:
    assert metrics.voting_confidence(list(votes), n_options) == pytest.approx(confidence, abs=1e-6)


def test_calibration_shift_of_the_voting_example() -> None:
    # Ten trials on four questions; accuracy is the mean over all trials (10 + 3 + 5 + 8 of 40).
    votes = ["A" * 10, "B" * 7 + "A" * 3, "C" * 5 + "D" * 5, "A" * 8 + "B" + "E"]
    gold, n_options = "AACA", [4, 4, 4, 5]
    confidence = [
        metrics.voting_confidence(list(vote), n) for vote, n in zip(votes, n_options, strict=True)
    ]
    correct = [vote == answer for trial, answer in zip(votes, gold, strict=True) for vote in trial]

    shift = metrics.calibration_shift(np.repeat(confidence, 10), correct)

    assert np.mean(confidence) == pytest.approx(0.665575, abs=1e-6)
    assert shift == pytest.approx(0.015575, abs=1e-6)


def test_more_kinds_of_votes_than_options_are_refused() -> None:
    with pytest.raises(ValueError, match="3 different votes on 2 options"):
        metrics.voting_confidence(["A", "B", "none"], 2)


# --- Ranking by confidence ------------------------------------------------------------------------


def test_auroc_agrees_with_torchmetrics_also_with_ties(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    confidence, correct = answers
    for values in (confidence, confidence.round(1)):
        expected = binary_auroc(torch.tensor(values), torch.tensor(correct))
        assert metrics.auroc(values, correct) == pytest.approx(float(expected), abs=1e-6)


def test_auroc_is_undefined_when_every_answer_is_right() -> None:
    assert math.isnan(metrics.auroc([0.3, 0.9], [1, 1]))


def test_risk_coverage_by_hand() -> None:
    # Most confident first: right, wrong, right. Error rates 0/1, 1/2, 1/3; mean 5/18.
    assert metrics.area_under_risk_coverage([0.7, 0.9, 0.8], [1, 1, 0]) == pytest.approx(5 / 18)


def test_risk_coverage_of_constant_confidence_is_the_error_rate() -> None:
    assert metrics.area_under_risk_coverage([0.5] * 4, [1, 0, 0, 1]) == pytest.approx(0.5)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_risk_coverage_does_not_depend_on_the_order_of_samples(
    answers: list[tuple[float, int]], shuffler: object
) -> None:
    shuffled = answers.copy()
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]

    one, other = (
        metrics.area_under_risk_coverage(*zip(*order, strict=True)) for order in (answers, shuffled)
    )

    assert one == pytest.approx(other)


# --- Pairs ----------------------------------------------------------------------------------------


def test_mcnemar_is_an_exact_binomial_test_on_the_questions_that_differ() -> None:
    a = [1] * 30 + [1] * 12 + [0] * 3 + [0] * 5
    b = [1] * 30 + [0] * 12 + [1] * 3 + [0] * 5

    test = metrics.mcnemar(a, b)

    # Two-sided: 2 * P(X <= 3) for X ~ Binomial(15, 1/2) = 2 * (1 + 15 + 105 + 455) / 2**15.
    assert (test.only_a, test.only_b) == (12, 3)
    assert test.p_value == pytest.approx(2 * 576 / 2**15)


def test_mcnemar_without_differences_has_nothing_to_test() -> None:
    assert metrics.mcnemar([1, 0], [1, 0]).p_value == 1.0


def test_always_saying_yes_earns_half_the_questions_and_no_pair() -> None:
    correct = [1, 0] * 10  # right on every plain question, wrong on every negated one
    pairs = [f"pair-{number // 2}" for number in range(20)]

    assert np.mean(correct) == 0.5
    assert metrics.paired_accuracy(correct, pairs) == 0.0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1))
def test_flips_add_up_to_the_change_in_right_answers(pairs: list[tuple[int, int]]) -> None:
    before, after = zip(*pairs, strict=True)

    flips = metrics.flip_matrix(before, after)

    assert sum(flips) == len(pairs)
    assert flips.wrong_right - flips.right_wrong == sum(after) - sum(before)


# --- Statistics -----------------------------------------------------------------------------------


def test_bootstrap_of_single_samples_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(5, 2, 300)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval

    found = metrics.clustered_bootstrap(values, range(300))

    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.03)
    assert found.high == pytest.approx(expected.high, abs=0.03)


def test_copies_of_a_sample_in_its_cluster_add_no_certainty() -> None:
    values = np.random.default_rng(1).integers(0, 2, 200)

    once = metrics.clustered_bootstrap(values, range(200))
    copied = metrics.clustered_bootstrap(np.repeat(values, 5), np.repeat(np.arange(200), 5))
    taken_as_new = metrics.clustered_bootstrap(np.repeat(values, 5), range(1000))

    assert copied == pytest.approx(once)
    assert taken_as_new.high - taken_as_new.low < 0.6 * (once.high - once.low)


def test_bootstrap_draws_whole_clusters() -> None:
    # Two clusters drawn twice: a mean of 0 (aa), 1 (bb) or 1/2, and nothing else.
    interval = metrics.clustered_bootstrap([0, 0, 1, 1], ["a", "a", "b", "b"])

    assert interval == (0.5, 0.0, 1.0)


def test_bootstrap_takes_any_function_of_totals() -> None:
    confidence = [0.9, 0.8, 0.7, 0.6]
    correct = [1.0, 0.0, 1.0, 0.0]

    shift = metrics.clustered_bootstrap(
        np.column_stack([confidence, correct]),
        range(4),
        statistic=lambda totals, counts: (totals[:, 0] - totals[:, 1]) / counts,
    )

    assert shift.value == pytest.approx(metrics.calibration_shift(confidence, correct))
    assert shift.low < shift.value < shift.high


def test_bootstrap_depends_on_the_seed_only() -> None:
    values = np.random.default_rng(4).random(50)

    first = metrics.clustered_bootstrap(values, range(50), seed=7)

    assert metrics.clustered_bootstrap(values, range(50), seed=7) == first
    assert metrics.clustered_bootstrap(values, range(50), seed=8) != first


def test_one_cluster_has_no_interval() -> None:
    interval = metrics.clustered_bootstrap([1, 0, 1], ["a", "a", "a"])

    assert interval.value == pytest.approx(2 / 3)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # 40 patients with 5 questions each; patients differ, so questions of one patient go together.
    generator = np.random.default_rng(11)
    clusters = np.repeat(np.arange(40), 5)
    covered = 0
    for _ in range(200):
        skill = np.repeat(generator.beta(2, 1, 40), 5)  # mean 2/3
        right = generator.random(200) < skill
        interval = metrics.clustered_bootstrap(right, clusters, n_resamples=400)
        covered += interval.low <= 2 / 3 <= interval.high

    assert 0.90 <= covered / 200 <= 0.98


def test_a_paired_difference_is_surer_than_the_two_means() -> None:
    generator = np.random.default_rng(5)
    before = generator.random(300)
    after = before - 0.1 + generator.normal(0, 0.01, 300)

    change = metrics.paired_difference(before, after, range(300))
    alone = metrics.clustered_bootstrap(after, range(300))

    assert change.value == pytest.approx(-0.1, abs=0.005)
    assert change.high - change.low < 0.1 * (alone.high - alone.low)


def test_paired_difference_refuses_unmatched_samples() -> None:
    with pytest.raises(ValueError, match="before has 2, after has 3"):
        metrics.paired_difference([1, 0], [1, 0, 1], range(3))


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, then never below its predecessor.
    found = metrics.holm([0.01, 0.04, 0.03, 0.005])

    assert found.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_hochberg_by_hand() -> None:
    # Sorted .005 .01 .03 .04 times 4/1 4/2 4/3 4/4 = .02 .02 .04 .04.
    found = metrics.benjamini_hochberg([0.01, 0.04, 0.03, 0.005])

    assert found.tolist() == pytest.approx([0.02, 0.04, 0.04, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_keep_their_order_and_never_fall(p_values: list[float]) -> None:
    for adjusted in (metrics.holm(p_values), metrics.benjamini_hochberg(p_values)):
        assert (adjusted >= np.array(p_values) - 1e-12).all()
        assert (adjusted <= 1).all()
        ordered = adjusted[np.argsort(p_values, kind="stable")]
        assert all(one <= other + 1e-12 for one, other in pairwise(ordered))


# --- Wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], "confidence is empty"),
        ([0.5, 1.2], [1, 0], r"confidence must lie in \[0, 1\], found 0.5 to 1.2"),
        ([0.5, math.nan], [1, 0], "confidence contains NaN"),
        ([0.5], [1, 0], "confidence has 1, correct has 2"),
        ([0.5], [0.7], "correct must hold only 0 and 1, found 0.7"),
        ([[0.5]], [1], r"one dimension, found shape \(1, 1\)"),
    ],
)
@pytest.mark.parametrize(
    "metric",
    [
        metrics.expected_calibration_error,
        metrics.brier_score,
        metrics.calibration_shift,
        metrics.auroc,
        metrics.area_under_risk_coverage,
        metrics.reliability_curve,
    ],
)
def test_wrong_input_is_named(
    metric: object, confidence: list[float], correct: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(confidence, correct)  # type: ignore[operator]


def test_an_unknown_binning_is_named() -> None:
    with pytest.raises(ValueError, match="'width' or 'mass', not 'area'"):
        metrics.expected_calibration_error([0.5], [1], strategy="area")  # type: ignore[arg-type]


def test_bootstrap_refuses_missing_values() -> None:
    with pytest.raises(ValueError, match="NaN"):
        metrics.clustered_bootstrap([1.0, math.nan], range(2))
