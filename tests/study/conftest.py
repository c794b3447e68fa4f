"""Stand-ins for packing and measuring, for tests that are about neither."""

from __future__ import annotations

import pytest
from small_studies import Rooms


@pytest.fixture
def rooms() -> Rooms:
    return Rooms()
