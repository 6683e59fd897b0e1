"""Metrics survive crashes and resumption."""

from __future__ import annotations

from pathlib import Path

from genrl.infra.logging import MetricsLogger, read_metrics


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    logger.write(1, {"loss": 2.0})
    logger.write(2, {"loss": 1.0, "model/kl": 0.5})
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "model/kl": 0.5}]
    logger.close()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_torn_last_line_is_dropped_when_the_log_goes_on(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]
    logger = MetricsLogger(tmp_path)
    logger.write(2, {"loss": 1.0})
    logger.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n'


def test_truncation_drops_later_rows_only(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    for step in (2, 4, 6):
        logger.write(step, {"loss": 1.0})
    logger.truncate(after_step=4)
    logger.write(6, {"loss": 3.0})
    logger.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(2, 1.0), (4, 1.0), (6, 3.0)]


def test_not_a_number_is_kept(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    logger.write(1, {"loss": float("nan")})
    logger.close()
    (row,) = read_metrics(tmp_path)
    assert row["loss"] != row["loss"]


def test_a_directory_without_metrics_has_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
