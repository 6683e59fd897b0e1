"""Which behaviours a two-legged body shows: rules on what `describe_motion` measured.

A rule is a set of intervals. A clip shows the behaviour if it lies in all of them, does not if it lies clearly outside
of one, and is left undecided in between: training neither pulls nor pushes on an undecided pair of clip and caption.
The limits are our own reading of the words in terms of the body's geometry.
"""

from __future__ import annotations

import numpy as np

INF = np.inf

MARGINS = {
    "upright": 0.12,
    "upright_min": 0.15,
    "upright_first": 0.12,
    "upright_last": 0.12,
    "facing": 0.15,
    "lean_first": 15.0,
    "lean_last": 15.0,
    "speed": 0.25,
    "pace": 0.25,
    "hip_speed": 0.2,
    "spin": 40.0,
    "turning": 40.0,
    "activity": 0.6,
    "jitter": 0.15,
    "knee_bend_min": 15.0,
    "knee_bend_max": 15.0,
    "clearance": 0.05,
    "clearance_max": 0.05,
    "elbow_bend_min": 15.0,
    "elbow_bend_max": 15.0,
    "hand_speed": 0.5,
    "hand_swing": 0.08,
}
"""How far outside of an interval a clip is still undecided; lengths that are not listed have `LENGTH_MARGIN`."""
LENGTH_MARGIN = 0.1

Rule = dict[str, tuple[float, float]]

_UPRIGHT: Rule = {"upright": (0.78, INF), "turning": (0, 120)}
_STILL: Rule = {"pace": (0, 0.25), "jitter": (0, 0.25), "turning": (0, 45)}
_GROUNDED: Rule = {"clearance": (-INF, 0.1)}
_ON_BACK: Rule = {"facing": (-INF, -0.8), "chest": (-INF, 0.28), "hip": (-INF, 0.35), "turning": (0, 60)}
_ON_FRONT: Rule = {"facing": (0.8, INF), "chest": (-INF, 0.28), "hip": (-INF, 0.35), "turning": (0, 60)}

RULES: dict[str, Rule] = {
    "stand": {
        "upright": (0.8, INF),
        **_STILL,
        "chest": (1.05, INF),
        "foot_high": (-INF, 0.16),
        "knee_bend_max": (-INF, 60),
    },
    "walk_forward": {
        **_UPRIGHT,
        **_GROUNDED,
        "chest": (0.88, INF),
        "speed": (0.4, 2.6),
        "hip_speed": (0.3, INF),
        "stride_range": (0.2, INF),
        "foot_lift": (-INF, 0.8),
    },
    "walk_backward": {
        **_UPRIGHT,
        **_GROUNDED,
        "chest": (0.88, INF),
        "speed": (-2.6, -0.35),
        "hip_speed": (-INF, -0.25),
        "stride_range": (0.15, INF),
        "foot_lift": (-INF, 0.8),
    },
    "run": {
        "upright": (0.72, INF),
        "turning": (0, 160),
        "chest": (0.88, INF),
        "speed": (2.9, INF),
        "stride_range": (0.3, INF),
        "clearance": (-INF, 0.25),
    },
    "jump": {
        "upright": (0.8, INF),
        "turning": (0, 120),
        "clearance": (0.1, INF),
        "clearance_max": (0.18, INF),
        "pace": (0, 1.3),
        "hip": (0.8, INF),
    },
    "march": {
        **_UPRIGHT,
        **_GROUNDED,
        "chest": (1.1, INF),
        "pace": (0, 0.35),
        "foot_lift": (0.15, 0.7),
        "jitter": (0.45, INF),
    },
    "squat": {
        "upright": (0.65, INF),
        **_STILL,
        "hip": (0.2, 0.76),
        "knee_bend_min": (60, INF),
        "foot_high": (-INF, 0.12),
        "knee_low": (0.28, INF),
    },
    "sit": {
        "upright": (0.7, INF),
        **_STILL,
        "hip": (-INF, 0.24),
        "reach": (0.35, INF),
        "shin_ahead": (0.1, INF),
        "foot_high": (-INF, 0.25),
    },
    "kneel": {
        "upright": (0.75, INF),
        **_STILL,
        "hip": (0.12, 0.62),
        "knee_high": (-INF, 0.17),
        "shin_ahead": (-INF, -0.25),
    },
    "lunge": {
        "upright": (0.72, INF),
        **_STILL,
        "hip": (0.35, 0.88),
        "stride": (0.55, INF),
        "knee_bend_max": (45, INF),
        "foot_high": (-INF, 0.25),
        "knee_high": (0.25, INF),
    },
    "one_leg_stand": {
        "upright": (0.78, INF),
        "pace": (0, 0.6),
        "jitter": (0, 0.8),
        "turning": (0, 90),
        "chest": (1.05, INF),
        "foot_low": (-INF, 0.08),
        "foot_high": (0.3, 0.85),
        "clearance": (-INF, 0.06),
    },
    "kick": {
        "upright": (0.6, INF),
        "turning": (0, 120),
        "pace": (0, 0.7),
        "hip": (0.75, INF),
        "foot_low": (-INF, 0.12),
        "foot_lift": (0.78, INF),
        "foot_ahead": (0.3, INF),
    },
    "balance_lean": {
        "upright": (0.0, 0.75),
        "facing": (0.55, INF),
        **_STILL,
        "hip": (0.75, INF),
        "foot_low": (-INF, 0.12),
        "foot_high": (0.35, INF),
        "foot_ahead": (-INF, -0.25),
    },
    "bend_over": {
        "upright": (-0.8, 0.5),
        "facing": (0.55, INF),
        **_STILL,
        "hip": (0.72, INF),
        "foot_high": (-INF, 0.12),
    },
    "lie_back": {**_ON_BACK, **_STILL, "foot_high": (-INF, 0.26), "knee_high": (-INF, 0.3)},
    "lie_front": {**_ON_FRONT, **_STILL, "foot_high": (-INF, 0.22), "knee_high": (-INF, 0.3)},
    "legs_up": {**_ON_BACK, "pace": (0, 0.5), "foot_low": (0.4, INF)},
    "inverted": {
        "upright": (-INF, -0.75),
        "turning": (0, 110),
        "pace": (0, 0.6),
        "foot_low": (0.75, INF),
        "hip": (0.5, INF),
        "clearance": (-INF, 0.15),
    },
    "flip_forward": {"spin": (220, INF), "upright_min": (-INF, -0.2), "chest": (0.6, INF)},
    "flip_backward": {"spin": (-INF, -220), "upright_min": (-INF, -0.2), "chest": (0.6, INF)},
    "fall_forward": {
        "upright_first": (0.45, INF),
        "lean_last": (40, 130),
        "lean_first": (-40, 65),
        "rise": (-INF, -0.25),
        "spin": (70, 400),
    },
    "fall_backward": {
        "upright_first": (0.45, INF),
        "lean_last": (-130, -40),
        "lean_first": (-65, 40),
        "rise": (-INF, -0.25),
        "spin": (-400, -70),
    },
    "get_up": {
        "rise": (0.22, INF),
        "chest_min": (-INF, 0.8),
        "upright_last": (0.6, INF),
        "clearance": (-INF, 0.06),
        "turning": (0, 350),
    },
    "crawl": {
        "facing": (0.6, INF),
        "chest": (-INF, 0.58),
        "speed": (0.25, INF),
        "turning": (0, 90),
        "jitter": (0.3, INF),
    },
    "squirm": {"chest": (-INF, 0.42), "upright": (-0.5, 0.5), "jitter": (0.7, INF), "pace": (0, 0.5)},
    "wide_stance": {
        "upright": (0.8, INF),
        **_STILL,
        "stride": (0.62, INF),
        "knee_bend_max": (-INF, 35),
        "chest": (0.98, INF),
        "foot_high": (-INF, 0.15),
    },
    "upright": {"upright": (0.85, INF), "chest": (0.95, INF)},
    "low": {"chest": (-INF, 0.35), "clearance": (-INF, 0.06)},
    "forward": {"speed": (0.5, INF)},
    "backward": {"speed": (-INF, -0.45)},
    "fast": {"pace": (2.5, INF)},
    "still": {"pace": (0, 0.12), "jitter": (0, 0.1), "turning": (0, 20)},
    "airborne": {"clearance": (0.12, INF)},
    "spinning": {"turning": (220, INF)},
    "foot_lifted": {"foot_low": (-INF, 0.1), "foot_high": (0.25, INF), "upright": (0.6, INF), "hip": (0.7, INF)},
    "knees_bent": {"knee_bend_min": (55, INF)},
}
RULES["slow_walk"] = {**RULES["walk_forward"], "speed": (0.25, 0.85), "hip_speed": (0.2, INF)}
RULES["brisk_walk"] = {**RULES["walk_forward"], "speed": (1.45, 2.8)}

UNIONS = {
    "lie": ("lie_back", "lie_front"),
    "flip": ("flip_forward", "flip_backward"),
    "fall": ("fall_forward", "fall_backward"),
}
"""Behaviours that are shown when one of several is."""

RETRIEVAL_CLASSES = [
    "stand",
    "walk_forward",
    "walk_backward",
    "run",
    "jump",
    "march",
    "squat",
    "sit",
    "kneel",
    "lunge",
    "one_leg_stand",
    "kick",
    "balance_lean",
    "bend_over",
    "lie_back",
    "lie_front",
    "legs_up",
    "inverted",
    "flip_forward",
    "flip_backward",
    "fall_forward",
    "fall_backward",
    "get_up",
    "crawl",
]
"""What retrieval is measured on, besides being trained."""

_CALM_HANDS: Rule = {"hand_speed": (0, 1.2)}
ARM_RULES: dict[str, Rule] = {
    "arms_raised": {"upright": (0.72, INF), "chest": (0.95, INF), **_CALM_HANDS, "hand_low": (0.36, INF)},
    "strike": {
        "upright": (0.72, INF),
        "chest": (1.0, INF),
        "pace": (0, 1.0),
        "hand_speed": (3.0, INF),
        "hand_far": (0.22, INF),
    },
    "reach_forward": {
        "upright": (0.72, INF),
        **_CALM_HANDS,
        "hand_near": (0.45, INF),
        "hand_low": (-0.06, INF),
        "hand_high": (-INF, 0.36),
    },
    "wave": {
        "upright": (0.72, INF),
        "pace": (0, 1.0),
        "hand_low": (-INF, 0.0),
        "hand_high": (0.3, INF),
        "hand_swing": (0.16, INF),
    },
    "guard": {
        "upright": (0.72, INF),
        **_CALM_HANDS,
        "elbow_bend_min": (85, INF),
        "hand_near": (0.05, INF),
        "hand_low": (0.02, INF),
        "hand_high": (-INF, 0.42),
    },
    "arms_down": {"upright": (0.72, INF), "hand_high": (-INF, -0.2)},
}
"""Of bodies with arms."""
ARM_CLASSES = ["arms_raised", "strike", "reach_forward", "wave", "guard"]
"""What retrieval is measured on besides, where there are arms."""


def judge(rule: Rule, measured: dict[str, np.ndarray], margins: dict[str, float]) -> np.ndarray:
    """Whether clips obey a rule.

    Args:
        rule: Intervals by the name of a measurement.
        measured: (N,) arrays by name.
        margins: How far outside of an interval a clip is undecided; `LENGTH_MARGIN` for what is not listed.

    Returns:
        (N,) 1 inside all intervals, -1 near, 0 elsewhere.
    """
    inside = near = np.ones(len(next(iter(measured.values()))), bool)
    for name, (low, high) in rule.items():
        margin = margins.get(name, LENGTH_MARGIN)
        inside = inside & (measured[name] >= low) & (measured[name] <= high)
        near = near & (measured[name] >= low - margin) & (measured[name] <= high + margin)
    return np.where(inside, 1, np.where(near, -1, 0))
