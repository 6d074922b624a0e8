"""What kernels know of the processor that numba compiles for."""

from __future__ import annotations

from numba.core import config
from numba.core.codegen import get_host_cpu_features

PAST_CACHES = 2**21
"""Float32 numbers of a result that is not worth a place in the caches."""


def count_registers() -> int:
    """How many vectors of 16 float32 its registers hold at once."""
    asked: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]  # NUMBA_CPU_FEATURES: "+avx2,-avx512f"
    given: str = get_host_cpu_features() if asked is None else asked
    features = {feature[1:] for feature in given.split(",") if feature.startswith("+")}
    if "avx512f" in features:
        return 16 if "prefer-256-bit" in features else 32
    return 8  # 16 registers of 8 numbers with AVX2, 32 of 4 with NEON


REGISTERS = count_registers()
