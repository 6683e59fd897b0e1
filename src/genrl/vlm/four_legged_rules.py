"""Which behaviours a clip of a four-legged body shows: rules on what `four_legged_motion` measured.

They are read as those of the two-legged ones in `behaviours`; lengths are in standing heights, speeds in the body's
unit. Nothing of the planar cheetah turns or rolls sideways, so rules that ask for that never hold for it.
"""

from __future__ import annotations

from genrl.vlm.behaviours import INF, Rule

FOUR_LEGGED_MARGINS = {
    "upright": 0.12,
    "upright_min": 0.15,
    "upright_first": 0.15,
    "upright_last": 0.15,
    "nose": 0.12,
    "nose_min": 0.15,
    "nose_max": 0.15,
    "tilt": 0.15,
    "height": 0.12,
    "height_first": 0.15,
    "height_last": 0.15,
    "height_min": 0.15,
    "rise": 0.1,
    "front_height": 0.12,
    "rear_height": 0.12,
    "front_feet": 0.12,
    "rear_feet": 0.12,
    "feet_high": 0.15,
    "clearance": 0.07,
    "clearance_max": 0.08,
    "speed": 0.15,
    "pace": 0.15,
    "jitter": 0.15,
    "spin": 45.0,
    "spin_rate": 45.0,
    "roll_rate": 40.0,
    "turning": 15.0,
    "rotation": 40.0,
    "stride_range": 0.03,
    "activity": 0.6,
}
"""How far outside of an interval a clip is still undecided."""

_STILL: Rule = {"pace": (0, 0.2), "jitter": (0, 0.4), "rotation": (0, 60)}
_GROUNDED: Rule = {"clearance": (-INF, 0.08)}
_ON_FEET: Rule = {"upright": (0.78, INF), "height": (0.4, INF), "rotation": (0, 150), "rise": (-0.14, 0.14)}

FOUR_LEGGED_RULES: dict[str, Rule] = {
    "four_stand": {"upright": (0.85, INF), **_STILL, **_GROUNDED, "height": (0.7, INF), "feet_high": (-INF, 0.26)},
    "four_walk": {**_ON_FEET, **_GROUNDED, "speed": (0.25, 1.4), "stride_range": (0.05, INF), "turning": (0, 60)},
    "four_walk_backward": {
        **_ON_FEET,
        **_GROUNDED,
        "speed": (-1.6, -0.2),
        "stride_range": (0.04, INF),
        "turning": (0, 60),
    },
    "four_run": {
        "upright": (0.7, INF),
        "height": (0.3, INF),
        "rotation": (0, 250),
        "clearance": (-INF, 0.4),
        "speed": (1.8, INF),
        "stride_range": (0.08, INF),
    },
    "four_jump": {
        "upright": (0.72, INF),
        "rotation": (0, 140),
        "clearance": (0.14, INF),
        "clearance_max": (0.25, INF),
        "pace": (0, 1.6),
    },
    "four_crouch": {
        "upright": (0.82, INF),
        **_STILL,
        **_GROUNDED,
        "height": (0.28, 0.62),
        "feet_high": (-INF, 0.26),
    },
    "four_lie": {"upright": (0.75, INF), **_STILL, **_GROUNDED, "height": (-INF, 0.2)},
    "four_on_back": {
        "upright": (-INF, -0.7),
        **_GROUNDED,
        "height": (-INF, 0.5),
        "rotation": (0, 110),
        "pace": (0, 0.7),
    },
    "rear": {
        "nose": (0.55, INF),
        "upright": (-0.3, INF),
        **_GROUNDED,
        "front_feet": (0.6, INF),
        "rear_feet": (-INF, 0.15),
        "rear_height": (0.3, INF),
        "tilt": (0, 0.4),
        "rotation": (0, 110),
        "pace": (0, 0.7),
    },
    "front_stand": {
        "nose": (-INF, -0.5),
        "upright": (-0.4, INF),
        **_GROUNDED,
        "rear_feet": (0.65, INF),
        "front_feet": (-INF, 0.15),
        "front_height": (0.3, INF),
        "tilt": (0, 0.4),
        "rotation": (0, 110),
        "pace": (0, 0.7),
    },
    "four_flip_forward": {"spin": (190, INF), "upright_min": (-INF, 0.3), "roll_rate": (0, 130)},
    "four_flip_backward": {"spin": (-INF, -190), "upright_min": (-INF, 0.3), "roll_rate": (0, 130)},
    "four_roll": {"roll_rate": (110, INF), "upright_min": (-INF, 0.5), "spin_rate": (0, 130)},
    "four_turn": {
        "upright": (0.8, INF),
        **_GROUNDED,
        "height": (0.35, INF),
        "turning": (45, INF),
        "pace": (0, 0.45),
        "roll_rate": (0, 50),
        "spin_rate": (0, 50),
    },
    "four_fall": {
        "upright_first": (-0.4, INF),
        **_GROUNDED,
        "rise": (-INF, -0.2),
        "height_first": (0.5, INF),
        "height_last": (-INF, 0.7),
        "pace": (0, 1.5),
        "spin_rate": (0, 420),
    },
    "four_get_up": {
        "upright_last": (0.6, INF),
        "clearance_max": (-INF, 0.12),
        "rise": (0.15, INF),
        "height_first": (-INF, 0.5),
        "nose_max": (-INF, 0.7),
        "nose_min": (-0.7, INF),
    },
}

FOUR_LEGGED_UNIONS = {"four_flip": ("four_flip_forward", "four_flip_backward")}
"""Behaviours that are shown when one of several is."""

FOUR_LEGGED_CLASSES = [*FOUR_LEGGED_RULES]
"""What retrieval is measured on, besides being trained."""

SPIDER_ONLY = ("four_roll", "four_turn")
"""What the planar cheetah cannot do."""
