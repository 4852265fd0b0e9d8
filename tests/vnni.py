"""Which tests need a CPU that multiplies int8: its flags say so, and not the code under test."""

from pathlib import Path

import pytest

CPU = Path("/proc/cpuinfo")
FLAGS = CPU.read_text().split() if CPU.exists() else []

needs_vnni = pytest.mark.skipif(
    not {"avx512_vnni", "avx_vnni"} & set(FLAGS), reason="this CPU has no VNNI, so no int8"
)
