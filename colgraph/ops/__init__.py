"""The operator under the model: attention over a sheet's edges, one specification and several backends."""

from colgraph.ops._memory import empty_cache
from colgraph.ops.backends import available_backends, check_backend, resolve_backend, sheet_attention
from colgraph.ops.reference import attention_weights

__all__ = [
    "attention_weights",
    "available_backends",
    "check_backend",
    "empty_cache",
    "resolve_backend",
    "sheet_attention",
]
