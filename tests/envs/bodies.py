"""What tests over every body share."""

from __future__ import annotations

from functools import cache

import pytest

from genrl.envs.domain import get_domain
from genrl.infra.errors import UserError


def require_body(domain: str) -> None:
    """Skips where a body's optional package is missing."""
    if (missing := _missing_package(domain)) is not None:
        pytest.skip(missing)


@cache
def _missing_package(domain: str) -> str | None:
    try:
        get_domain(domain).load(domain)
    except UserError as error:
        if "pip install" in str(error):
            return str(error)
        raise
    return None
