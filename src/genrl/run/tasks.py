"""`genrl tasks`: what can be asked of which body."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from genrl.envs.tasks import TASKS, Task, domain_tasks
from genrl.infra.progress import table_console


@dataclass(frozen=True)
class TasksConfig:
    """Lists the tasks, their prompts and the returns that score 0 and 1."""

    domain: str | None = None
    """Only the tasks of this body."""


def tasks(config: TasksConfig) -> list[Task]:
    """Prints a table of tasks and returns them."""
    chosen = domain_tasks(config.domain) if config.domain is not None else list(TASKS.values())
    table = Table("task", "domain", "group", "prompt", "score 0", "score 1")
    for task in chosen:
        table.add_row(
            task.name, task.domain, task.group, task.prompt or "-", _bound(task.score_min), _bound(task.score_max)
        )
    table_console().print(table)
    return chosen


def _bound(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
