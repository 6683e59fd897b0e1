"""Environments and tasks. Importing this registers every task with Gymnasium as `genrl/<task>-v0`.

No simulator is loaded before an environment is made.
"""

import gymnasium

from genrl.envs.gl import choose_gl, load_triton
from genrl.envs.tasks import TASKS

load_triton()
choose_gl()  # MuJoCo reads the choice when it is first imported, in the modules below
for _name in TASKS:
    gymnasium.register(f"genrl/{_name}-v0", entry_point="genrl.envs.environment:make_env", kwargs={"task": _name})
