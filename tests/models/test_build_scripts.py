"""The arithmetic of the build scripts, without torch or onnx: int8 rounding and the scores of the cards."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "models"


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_models_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


quantise, scoring = _script("quantise"), _script("scoring")


@pytest.fixture
def layer() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs with a few loud, correlated channels, as in a transformer; weight; bias."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 24)) @ rng.standard_normal((24, 48)) * np.where(np.arange(48) % 12 == 0, 20, 1)
    return (x.astype(np.float32), rng.standard_normal((48, 32)).astype(np.float32),
            rng.standard_normal(32).astype(np.float32))


def test_rows_to_int8_is_off_by_at_most_half_a_step() -> None:
    table = np.random.default_rng(1).standard_normal((50, 16)).astype(np.float32) * np.arange(50)[:, None]
    rows, scale = quantise.rows_to_int8(table)
    assert rows.dtype == np.int8
    assert (np.abs(rows * scale[:, None] - table) <= scale[:, None] * 0.5001).all()
    assert (rows[0] == 0).all()


def test_channel_steps_reach_the_whole_range_of_every_channel() -> None:
    low, high = np.array([-1, -0.17, -5]), np.array([2, 8, 0.5])
    weight = np.ones((3, 2), np.float32)
    for alpha in (0.5, 1.0):
        for zero in (0.1, 0.5):
            step = quantise.channel_steps(low, high, weight, alpha, zero)
            assert (high / step <= 255 * (1 - zero) + 1e-3).all()
            assert (-low / step <= 255 * zero + 1e-3).all()


def test_weights_stay_within_their_limits(layer: tuple[np.ndarray, ...]) -> None:
    x, weight, _ = layer
    rounded, _ = quantise.round_weights(weight, (x.T @ x).astype(np.float64))
    wide = rounded.astype(int)
    assert np.abs(wide).max() <= quantise.WEIGHT_MAX
    for sign in (1, -1):
        pairs = np.maximum(sign * wide[::2], 0) + np.maximum(sign * wide[1::2], 0)
        assert pairs.max() <= quantise.PAIR_MAX


def test_compensated_rounding_beats_rounding_to_nearest(layer: tuple[np.ndarray, ...]) -> None:
    x, weight, _ = layer
    errors = []
    for gram in (None, (x.T @ x).astype(np.float64)):
        rounded, scale = quantise.round_weights(weight, gram)
        errors.append(np.linalg.norm(x @ (rounded * scale) - x @ weight))
    assert errors[1] < 0.8 * errors[0]


def test_a_quantised_layer_is_near_the_layer(layer: tuple[np.ndarray, ...]) -> None:
    x, weight, bias = layer
    linear = quantise.quantise_linear(x, weight, bias, zeros=(0.4, 0.5))
    want = x @ weight + bias
    assert np.linalg.norm(linear(x) - want) < 0.02 * np.linalg.norm(want)
    np.testing.assert_allclose((linear(x) - want).mean(axis=0), 0, atol=2e-4 * np.abs(want).mean())


def test_saturation_is_what_vpmaddubsw_does() -> None:
    weight = np.array([[127], [127], [-127], [1]], np.int8)
    q = np.array([[255, 255, 255, 0], [10, 10, 10, 10]], np.uint8)
    total, saturated = quantise.saturating_matmul(q, weight)
    assert saturated == 1
    assert list(total[:, 0]) == [32767 - 255 * 127, 10 * (127 + 127 - 127 + 1)]


def test_known_items_score_by_rank() -> None:
    documents = np.eye(3, dtype=np.float32)
    queries = np.array([[1, 0, 0], [0.9, 0.8, 0], [0.3, 0.2, 0.1]], np.float32)  # ranks 1, 2, 3
    ndcg, hit, first = scoring.known_item_scores(queries, documents)
    assert ndcg == pytest.approx((1 + 1 / np.log2(3) + 0.5) / 3)
    assert hit == pytest.approx(1 / 3)
    assert list(first) == [0, 0, 0]


def test_spearman_is_of_ranks() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert scoring.spearman(values, values**3) == pytest.approx(1)
    assert scoring.spearman(values, -values) == pytest.approx(-1)


def test_partners_are_neighbouring_rows() -> None:
    assert scoring.nearest_is_partner(np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [-0.6, 0.8]], np.float32)) == 0.5
