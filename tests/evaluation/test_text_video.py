"""Measurements of texts and clips whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from genrl.evaluation.text_video import (
    area_under_curve,
    matched_means,
    modality_gap,
    most_alike,
    rank_clips,
    standardised_by_source,
)


def test_the_gap_is_the_distance_of_the_means() -> None:
    video = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert modality_gap(video, np.array([[-1.0, 0.0], [0.0, -1.0]])) == pytest.approx(np.sqrt(2))
    assert modality_gap(video, video[::-1]) == 0.0


def test_area_under_the_curve_counts_pairs_and_halves_ties() -> None:
    # Of the six pairs 3 > 1, 3 > 2, 3 > 3 (half), 1 = 1 (half), 1 < 2, 1 < 3.
    assert area_under_curve(np.array([3.0, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(3 / 6)
    assert area_under_curve(np.array([2.0]), np.array([1.0])) == 1.0


def test_unknown_clips_are_ranked_and_not_counted() -> None:
    found = rank_clips(np.array([0.9, 0.8, 0.7, 0.1]), np.array([-1, 1, 0, 1], np.int8))
    assert found.top == (0, 1, 2, 3)
    assert (found.auc, found.precision, found.base_rate) == (0.5, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (found.mean, found.median) == (pytest.approx(0.625), pytest.approx(0.75))


@pytest.mark.parametrize("labels", [[1, 1, -1], [0, 0, 0], [-1, -1, -1]])
def test_without_both_kinds_of_clips_there_is_no_retrieval(labels) -> None:
    found = rank_clips(np.array([0.3, 0.2, 0.1]), np.array(labels, np.int8))
    assert found.auc is found.precision is found.base_rate is None


def test_precision_is_that_of_the_first_ten() -> None:
    labels = np.zeros(100, np.int8)
    labels[[0, 5, 50]] = 1
    assert rank_clips(-np.arange(100.0), labels).precision == pytest.approx(0.2)


def test_means_of_pairs_that_belong_together_and_that_do_not() -> None:
    means = matched_means(np.array([[0.8, 0.2, 0.5]]), np.array([[1, 0, -1]], np.int8))
    assert means == {"all": 0.5, "shown": pytest.approx(0.8), "not_shown": pytest.approx(0.2)}
    assert matched_means(np.array([[0.5]]), np.array([[-1]], np.int8))["shown"] is None


def test_texts_that_rank_alike_find_each_other_whatever_their_level() -> None:
    profile = np.array([0.0, 0.1, 0.2, 0.3])
    alike = most_alike(np.stack([profile, profile[::-1], 0.5 + 2 * profile]))
    assert (alike[0][0], alike[2][0]) == (2, 0) and alike[0][1] == pytest.approx(1.0)
    assert alike[1][1] == pytest.approx(-1.0)  # The other way round.
    assert most_alike(profile[None]) == [(0, 1.0)]


def test_sources_are_compared_in_deviations_of_the_text() -> None:
    cosines = np.array([[0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
    found = standardised_by_source(cosines, np.array([0, 0, 1, 1]), 2)
    assert found.tolist() == [[-1.0, 1.0], [0.0, 0.0]]
