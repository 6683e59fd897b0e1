"""The Franka kitchen: an arm of nine joints before a counter, and one object to move in each task.

The model file comes with gymnasium-robotics (extra `kitchen`), whose own environment is not used: control, sensors,
goals and rewards are those of the benchmark, written here as formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from dm_control import mujoco

from genrl.envs.domain import Domain, FreeCamera
from genrl.infra.errors import UserError

CONTROL_TIMESTEP = 0.08
"""Seconds per control step; the simulation step is 0.002 s."""

CONTROL_STEPS = 280
"""Control steps per episode, 22.4 s."""

CAMERA = FreeCamera(lookat=(-0.2, 0.5, 2.0), distance=2.2, azimuth=70, elevation=-35)

MODEL_FILE = Path("envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml")
"""Within the package gymnasium_robotics."""

NUM_JOINTS = 9
"""Of the arm: seven joints in radians, two fingers in metres. The objects' joints follow them in `qpos`."""

MAX_SPEED = 2.0
"""Joint speed of an action of 1, radians or metres a second."""

JOINT_LOW = np.array([-2.9, -1.8, -2.9, -3.1, -2.9, 0.0, -2.9, 0.0, 0.0])
JOINT_HIGH = np.array([2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9, 0.04, 0.04])
"""Bounds of the servos' targets."""

SENSOR_NOISE = 0.1 * np.repeat([0.1, 0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [9, 2, 6, 3, 3, 3, 3, 1])
"""(30,) largest error of a reading of each entry of `qpos`."""

START = np.array([
    0.148388023, -1.76848573, 1.84390296, -2.4768576, 0.260252026, 0.712533105, 1.59515394,  # arm
    0.0479267505, 0.0371350919,  # fingers
    -2.6627985e-4, -5.18043486e-5, 3.1287722e-5, -4.51199853e-5,  # knobs and burners
    -3.90842156e-6, -4.22629655e-5, 6.28065475e-5, 4.04984708e-5,
    4.62730939e-4, -2.26906415e-4,  # light switch and lamp
    -4.65501369e-4, -6.44129196e-3, -1.77048263e-3, 1.08009684e-3,  # slide, two hinges, microwave
    -0.26939744, 0.350383255, 1.61944683, 1.00618764, 4.0639512e-3, -6.62095997e-3, -2.68278933e-4,  # kettle
])  # fmt: skip
"""(30,) `qpos` that every episode starts from."""

PEDESTAL_GEOM = 1
PEDESTAL_COLOR = (0.95, 0.99, 0.92, 1.0)


@dataclass(frozen=True)
class Goal:
    """Where the joints of one object are to be.

    Attributes:
        joints: Their places in `qpos`.
        positions: Radians or metres; a quaternion at the end of the kettle's.
        threshold: Distance below which the task is done.
    """

    joints: tuple[int, ...]
    positions: tuple[float, ...]
    threshold: float


GOALS = {
    "kitchen_burner": Goal((11, 12), (-0.88, -0.01), 0.5),
    "kitchen_top_burner": Goal((15, 16), (-0.92, -0.01), 0.5),
    "kitchen_light": Goal((17, 18), (-0.69, -0.05), 0.5),
    "kitchen_slide": Goal((19,), (0.37,), 0.2),
    "kitchen_hinge": Goal((20, 21), (0.0, 1.45), 0.3),
    "kitchen_microwave": Goal((22,), (-0.75,), 0.25),
    "kitchen_kettle": Goal((23, 24, 25, 26, 27, 28, 29), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06), 0.3),
}


class KitchenPhysics(mujoco.Physics):
    """The kitchen with sensors, which are read once a control step and whenever a state is set.

    Attributes:
        random: Source of the sensors' noise; without one they are exact.
        readings: (30,) last readings of `qpos`.
    """

    random: np.random.Generator | None = None
    readings: np.ndarray

    def step(self, nstep: int = 1) -> None:
        """Simulates, then reads the sensors."""
        super().step(nstep)
        self._read_sensors()

    def forward(self) -> None:
        """Computes what follows from the state, then reads the sensors."""
        super().forward()
        self._read_sensors()

    def distance(self, goal: Goal) -> float:
        """From an object's joints, as they are read, to a goal for them."""
        return float(np.linalg.norm(self.readings[list(goal.joints)] - goal.positions))

    def _read_sensors(self) -> None:
        self.readings = self.data.qpos.copy()
        if self.random is not None:
            self.readings += SENSOR_NOISE * self.random.uniform(-1, 1, len(self.readings))


def load_physics(task: str) -> KitchenPhysics:
    """The kitchen of gymnasium-robotics; all tasks share it. The pedestal is the benchmark's: pale, without contacts.

    Raises:
        UserError: If the package is not installed.
    """
    package = find_spec("gymnasium_robotics")  # found, not imported: its environments want what we do not
    if package is None or not package.submodule_search_locations:
        raise UserError("the kitchen's model file is missing; install it with: pip install 'genrl-mfwm[kitchen]'")
    physics = KitchenPhysics.from_xml_path(str(Path(package.submodule_search_locations[0]) / MODEL_FILE))
    model = physics.model
    model.geom_rgba[PEDESTAL_GEOM] = PEDESTAL_COLOR
    model.geom_contype[PEDESTAL_GEOM] = model.geom_conaffinity[PEDESTAL_GEOM] = 0
    return physics


def start(physics: KitchenPhysics, random: np.random.Generator) -> None:
    """Always the same pose, at rest; the noise of the sensors is drawn from `random`."""
    physics.data.qpos[:] = START
    physics.random = random


def observe(physics: KitchenPhysics) -> np.ndarray:
    """(59,) positions as the sensors read them, and velocities."""
    return np.concatenate([physics.readings, physics.data.qvel]).astype(np.float32)


def control(physics: KitchenPhysics, action: np.ndarray) -> np.ndarray:
    """Targets of the position servos, ahead of the joints as they were last read by what the speed makes of a step."""
    ahead = physics.readings[:NUM_JOINTS] + MAX_SPEED * action * CONTROL_TIMESTEP
    return np.clip(ahead, JOINT_LOW, JOINT_HIGH)


def closeness(goal: Goal, physics: KitchenPhysics) -> float:
    """Minus the distance of the object's joints from the goal."""
    return -physics.distance(goal)


def is_reached(goal: Goal, physics: KitchenPhysics) -> bool:
    """Whether the object's joints are nearer to the goal than its threshold."""
    return physics.distance(goal) < goal.threshold


DOMAIN = Domain(
    name="kitchen",
    control_timestep=CONTROL_TIMESTEP,
    control_steps=CONTROL_STEPS,
    camera=CAMERA,
    load=load_physics,
    start=start,
    observe=observe,
    rewards={task: partial(closeness, goal) for task, goal in GOALS.items()},
    control=control,
    success={task: partial(is_reached, goal) for task, goal in GOALS.items()},
)
