"""The backends, the choice among them, and the one public function before them, with its checks."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch
from torch import Tensor

from colgraph.hints import did_you_mean
from colgraph.layout import Layout
from colgraph.ops.primitive import REFERENCE, Primitive, run
from colgraph.ops.reference import Operands
from colgraph.torch_internals import is_traced, is_transformed, static_shape

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class _Backend:
    """What a backend needs and what it can serve."""

    requires: str
    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    install: str

    def installed(self) -> bool:
        return importlib.util.find_spec(self.requires) is not None

    def missing(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why this backend cannot serve, or None when it can."""
        if not self.installed():
            return f"{self.requires} is not installed: {self.install}"
        if device.type not in self.devices:
            return f"it runs on {' and '.join(self.devices)}, the tensors are on {device.type}"
        if dtype not in self.dtypes:
            names = ", ".join(str(d).removeprefix("torch.") for d in self.dtypes)
            return f"it computes {names}, the tensors are {str(dtype).removeprefix('torch.')}"
        return None


_TRITON = _Backend("triton", ("cuda",), _FLOATS, "pip install triton (comes with CUDA torch)")

_BACKENDS: dict[str, _Backend] = {
    "numba": _Backend("numba", ("cpu",), _FLOATS, "pip install numba"),
    "triton": _TRITON,
    # The two kernels that "triton" chooses between, by name: one target at a time, or tiles of sixteen.
    "triton_edges": _TRITON,
    "triton_tiles": _TRITON,
    "torch_scatter": _Backend(
        "torch_scatter",
        ("cpu", "cuda"),
        (*_FLOATS, torch.float64),
        "pip install --no-build-isolation torch-scatter",
    ),
}


def available_backends() -> list[str]:
    """Names of the backends that can run here: always "reference", and those whose package and device are present."""
    names = ["reference"]
    for name, backend in _BACKENDS.items():
        on_device = any(device == "cpu" or torch.cuda.is_available() for device in backend.devices)
        if backend.installed() and on_device:
            names.append(name)
    return names


def check_backend(backend: str) -> None:
    """Raise ``ValueError`` for an unknown backend, naming the closest, and for one whose package is missing."""
    known = ["auto", "reference", *_BACKENDS]
    if backend not in known:
        hint = did_you_mean(backend, known, "; ")
        raise ValueError(f"unknown backend {backend!r}, expected one of {', '.join(known)}{hint}")
    if backend in _BACKENDS and not _BACKENDS[backend].installed():
        needs = _BACKENDS[backend]
        raise ValueError(f"backend {backend!r} cannot serve: {needs.requires} is not installed: {needs.install}")


def resolve_backend(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    """The backend that will run: ``backend`` itself, or the fastest that serves ``device`` and ``dtype`` for "auto".

    Transforms of ``torch.func`` (``grad``, ``vmap``, ``jvp``, ...) and dual tensors of forward-mode differentiation are
    served by the reference alone; so "auto" is the reference there, and where ``torch.jit.trace`` or an exporter to
    ONNX writes a program to be run elsewhere.

    Raises:
        ValueError: for an unknown name, or a named backend that cannot serve; there is no silent fall-back.
    """
    if backend == "reference":
        return backend
    transformed = is_transformed()
    if backend == "auto":
        if transformed or is_traced():
            return "reference"
        for name in ("triton", "numba"):
            if _BACKENDS[name].missing(device, dtype) is None:
                return name
        return "reference"
    check_backend(backend)
    reason = _BACKENDS[backend].missing(device, dtype)
    if reason is None and transformed:
        reason = "torch.func transforms and forward-mode differentiation take backend='reference' or 'auto'"
    if reason is None and is_traced() and torch.onnx.is_in_onnx_export():
        reason = "its operator is none of ONNX's: backend='reference' or 'auto'"
    if reason is not None:
        raise ValueError(f"backend {backend!r} cannot serve: {reason}")
    return backend


def primitive(backend: str, query: Tensor, layout: Layout) -> Primitive:
    """The pair of functions behind a backend, for a query ``[N,B,H,D]`` and a layout.

    Args:
        backend: from :func:`resolve_backend`.
        query: its width and dtype may decide between kernels.
        layout: its fill may decide between kernels.
    """
    # Import statements rather than names in a table: torch.compile follows the former, and stops at importlib.
    if backend == "numba":
        from colgraph.ops.numba_attention import NUMBA

        return NUMBA
    if backend == "torch_scatter":
        from colgraph.ops.scatter_attention import SCATTER

        return SCATTER
    if backend != "reference":
        from colgraph.ops.triton_attention import choose

        return choose(backend, query, layout)
    return REFERENCE


def sheet_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge_bias: Tensor | None,
    layout: Layout,
    scale: float | None = None,
    edge_cost: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor | None]:
    """Attention of each column over the columns it listens to.

    ``out_i = sum_j a_ij v_j`` with ``a_ij = softmax over j in N(i) of ( q_i . k_j * scale + b_ij )``, and, in the same
    pass, ``cost_i = sum_j a_ij c_ij``. Equals ``torch.nn.functional.scaled_dot_product_attention`` with the edge bias
    as additive mask and minus infinity where there is no edge.

    Args:
        query: ``[N,B,H,D]``.
        key: ``[N,B,H,D]``.
        value: ``[N,B,H,C]``.
        edge_bias: ``[E]`` or ``[E,H]``, in edge order, or None.
        layout: ``sheet.layout``.
        scale: factor on the dot product; ``1 / sqrt(D)`` by default.
        edge_cost: ``[E]`` cost of listening through each edge (its length, for the wiring cost), or None. A constant:
            it receives no gradient.
        backend: "auto", or one of :func:`available_backends`.

    Returns:
        ``out [N,B,H,C]`` of the value's dtype, and ``cost [N,B,H]`` of ``edge_cost``'s (None without it). A
        column with no incoming edge gets zeros. Gradients can be differentiated again, on every backend: that is
        computed by the reference.

    Raises:
        ValueError: for shapes, dtypes or devices that do not fit, or a backend that cannot serve.
    """
    _check(Operands(query, key, value, edge_bias, edge_cost, 1.0), layout)
    scale = query.size(-1) ** -0.5 if scale is None else float(scale)
    given = Operands(query, key, value, edge_bias, edge_cost, scale)
    return run(primitive(resolve_backend(backend, query.device, query.dtype), query, layout), given, layout)


def _check(given: Operands, layout: Layout) -> None:
    query, key, value, edge_bias, edge_cost, _ = given
    if not isinstance(layout, Layout):
        raise ValueError(f"layout must be a sheet's layout (sheet.layout), got {type(layout).__name__}")
    n, e = layout.num_columns, layout.num_edges
    shape, values = static_shape(query), static_shape(value)
    if len(shape) != 4 or shape[0] != n or shape[3] < 1:
        raise ValueError(f"query must have shape [N={n}, B, H, D], got {list(shape)}")
    if static_shape(key) != shape:
        raise ValueError(f"key must have the query's shape {list(shape)}, got {list(key.shape)}")
    if len(values) != 4 or values[:3] != shape[:3]:
        raise ValueError(f"value must have shape [{', '.join(map(str, shape[:3]))}, C], got {list(values)}")
    bias = () if edge_bias is None else static_shape(edge_bias)
    if edge_bias is not None and bias != (e,) and bias != (e, shape[2]):  # symbolic sizes have == alone
        raise ValueError(
            f"edge_bias must have shape [E={e}] or [E={e}, H={shape[2]}] for this layout, got {list(edge_bias.shape)}"
        )
    if edge_cost is not None and static_shape(edge_cost) != (e,):
        raise ValueError(f"edge_cost must have shape [E={e}] for this layout, got {list(edge_cost.shape)}")
    if edge_cost is not None and edge_cost.requires_grad:
        raise ValueError("edge_cost is a constant and receives no gradient: pass edge_cost.detach()")
    for name, tensor in (("key", key), ("value", value), ("edge_bias", edge_bias), ("edge_cost", edge_cost)):
        if tensor is None:
            continue
        if tensor.device != query.device:
            raise ValueError(f"{name} is on {tensor.device}, query on {query.device}: all must share one device")
        if tensor.dtype != query.dtype and name in ("key", "value"):
            raise ValueError(
                f"{name} is {tensor.dtype}, query {query.dtype}: query, key and value must share one dtype"
            )
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
    if layout.device != query.device:
        raise ValueError(f"layout is on {layout.device}, query on {query.device}: use layout.to({str(query.device)!r})")
