"""Numbers that say what a body does in a clip: posture, limbs, travel, rotation."""

from __future__ import annotations

import numpy as np

from genrl.vlm.figure import Figure

FRAME_SECONDS = 0.05
"""Time between two frames of the two-legged bodies: one env step."""


def describe_motion(figure: Figure, qpos: np.ndarray) -> dict[str, np.ndarray]:
    """Measure clips.

    Args:
        figure: The body.
        qpos: (N, L, nq) positions at L frames, one env step apart.

    Returns:
        (N,) arrays. Heights and distances in metres, angles in degrees, speeds in m/s, turning in degrees/s.
        Means over the clip unless the name says otherwise:
        `upright` cosine of the torso's lean (1 upright, 0 level, -1 head down), also `_min`, `_first`, `_last`;
        `facing` sine of it (1 chest down, -1 chest up); `lean_first` and `lean_last` in -180 ... 180;
        `chest` (also `_min`), `hip`, `head` heights; `foot_low`/`foot_high`, `knee_low`/`knee_high` of the lower and
        the higher one; `foot_lift` highest value of the higher foot; `knee_bend_min`/`_max` of the straighter and the
        more bent leg; `stride` distance of the feet along the floor and `stride_range` how much it changes with its
        sign; `foot_ahead` how far the higher foot is before the hip; `shin_ahead` how far the ankles are before the
        knees; `reach` how far the feet are before the hip; `clearance` under the lowest spot, also `_max`; `speed` of
        the whole body forward, `hip_speed` of the hip, `pace` amount of the former; `rise` of the chest from first to
        last frame; `spin` forward rotation and `turning` its amount; `activity` mean joint speed in rad/s; `jitter`
        mean speed of all points but the arms' against the body's middle.
        Of a body with arms also `hand_low` and `hand_high`, heights of the hands above the chest, `hand_near` and
        `hand_far`, how far they are before it (the lesser and the greater), `elbow_bend_min` and `_max`, `hand_speed`
        fastest move of a hand forward or back against the chest, `hand_swing` how far one moves about in the clip.
    """
    points = figure.points(qpos)
    seconds = FRAME_SECONDS * (qpos.shape[1] - 1)
    lean = qpos[..., 2]  # (N, L) radians
    cos, sin = np.cos(lean), np.sin(lean)
    chest, hip, head = (points[name][..., 1] for name in ("chest", "hip", "head"))
    hip_x = points["hip"][..., 0]
    feet = {s: (points[f"{s}_heel"] + points[f"{s}_toe"]) / 2 for s in ("right", "left")}
    foot_z = np.stack([feet["right"][..., 1], feet["left"][..., 1]], -1)
    foot_z = foot_z - figure.radius("right_toe")  # (N, L, 2) above the floor
    foot_x = np.stack([feet["right"][..., 0], feet["left"][..., 0]], -1)
    knee = np.stack([points["right_knee"], points["left_knee"]], -2)  # (N, L, 2, 2)
    ankle = np.stack([points["right_ankle"], points["left_ankle"]], -2)
    bend = -np.rad2deg(np.stack([qpos[..., 4], qpos[..., 7]], -1))
    high = foot_z.argmax(-1)[..., None]
    gap = foot_x[..., 0] - foot_x[..., 1]
    clearance = figure.lowest(qpos)
    trunk = [name for name in points if not name.endswith(("hand", "elbow"))]  # who stands and waves is still
    center = np.mean([points[name] for name in trunk], axis=0)  # (N, L, 2)
    relative = np.stack([points[name] - center for name in trunk], -2)  # (N, L, P, 2)
    point_speed = np.linalg.norm(np.diff(relative, axis=1), axis=-1) / FRAME_SECONDS
    measured = {
        "upright": cos.mean(1),
        "upright_min": cos.min(1),
        "upright_first": cos[:, 0],
        "upright_last": cos[:, -1],
        "facing": sin.mean(1),
        "lean_first": _wrapped(lean[:, 0]),
        "lean_last": _wrapped(lean[:, -1]),
        "chest": chest.mean(1),
        "chest_min": chest.min(1),
        "hip": hip.mean(1),
        "head": head.mean(1),
        "foot_low": foot_z.min(-1).mean(1),
        "foot_high": foot_z.max(-1).mean(1),
        "foot_lift": foot_z.max(-1).max(1),
        "knee_low": knee[..., 1].min(-1).mean(1),
        "knee_high": knee[..., 1].max(-1).mean(1),
        "knee_bend_min": bend.min(-1).mean(1),
        "knee_bend_max": bend.max(-1).mean(1),
        "stride": np.abs(gap).mean(1),
        "stride_range": np.ptp(gap, axis=1),
        "foot_ahead": (np.take_along_axis(foot_x, high, -1)[..., 0] - hip_x).mean(1),
        "shin_ahead": (ankle[..., 0] - knee[..., 0]).mean((1, 2)),
        "reach": (foot_x - hip_x[..., None]).mean((1, 2)),
        "clearance": clearance.mean(1),
        "clearance_max": clearance.max(1),
        "speed": (center[:, -1, 0] - center[:, 0, 0]) / seconds,
        "hip_speed": (hip_x[:, -1] - hip_x[:, 0]) / seconds,
        "rise": chest[:, -1] - chest[:, 0],
        "spin": np.rad2deg(lean[:, -1] - lean[:, 0]) / seconds,
        "activity": np.abs(np.diff(qpos[..., 3:9], axis=1)).mean((1, 2)) / FRAME_SECONDS,
        "jitter": point_speed.mean((1, 2)),
    }
    measured["turning"] = np.abs(measured["spin"])
    measured["pace"] = np.abs(measured["speed"])
    return {**measured, **_describe_arms(points, qpos)} if figure.has_arms else measured


def _describe_arms(points: dict[str, np.ndarray], qpos: np.ndarray) -> dict[str, np.ndarray]:
    hands = np.stack([points["left_hand"], points["right_hand"]], -2) - points["chest"][..., None, :]  # (N, L, 2, 2)
    ahead, above = hands[..., 0], hands[..., 1]
    bend = np.rad2deg(qpos[..., [10, 12]])
    return {
        "hand_low": above.min(-1).mean(1),
        "hand_high": above.max(-1).mean(1),
        "hand_near": ahead.min(-1).mean(1),
        "hand_far": ahead.max(-1).mean(1),
        "elbow_bend_min": bend.min(-1).mean(1),
        "elbow_bend_max": bend.max(-1).mean(1),
        "hand_speed": np.abs(np.diff(ahead, axis=1)).max((1, 2)) / FRAME_SECONDS,
        "hand_swing": np.linalg.norm(np.ptp(hands, axis=1), axis=-1).max(-1),
    }


def _wrapped(radians: np.ndarray) -> np.ndarray:
    """Degrees in -180 ... 180."""
    return (np.rad2deg(radians) + 180) % 360 - 180
