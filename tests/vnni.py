"""Which tests need a CPU that multiplies int8."""

import pytest
import torch

from sls.models.packing import can_pack


def _has_vnni() -> bool:
    try:
        return can_pack(torch.int8)
    except ValueError:
        return False


needs_vnni = pytest.mark.skipif(not _has_vnni(), reason="this CPU has no VNNI, so no int8")
