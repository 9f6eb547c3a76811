"""A camera's bytes become the network's input with torch's operators, on any device of torch's.

The module torch is handed in, since a backend imports it only when it opens.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from trt_perception.backends.frame_sampling import (
    CHROMA_OFFSET,
    COLUMN_SHIFT,
    GRAY_FACTORS,
    GRAY_SHIFT,
    LAST_SHIFT,
    ROW_SUM_SHIFT,
    U_FACTORS,
    V_FACTORS,
    Y_FACTOR,
    Y_OFFSET,
    YUV_SHIFT,
    SamplingTables,
)

# A torch.Tensor; torch itself is not imported here.
Tensor: TypeAlias = Any


class FrameSampler:
    """Colour conversion, resizing, scaling and layout of one geometry: what the preprocessor does on the host."""

    def __init__(
        self, torch: Any, tables: SamplingTables, *, yuv: bool, color_order: str, factor: Tensor, shift: Tensor
    ) -> None:
        """tables: of the part that is resized. color_order: of the network, `rgb`, `bgr` or `gray`.

        factor, shift: float32 (C, 1, 1) on the device, by which a channel's value 0..255 becomes the network's.
        """
        device = factor.device
        self._torch = torch
        self._yuv = yuv
        self._color_order = color_order
        self._factor, self._shift = factor, shift
        planes = tables.rows.shape[1]
        rows, columns = (torch.from_numpy(t).to(device) for t in (tables.rows, tables.columns))
        # Index tensors that are broadcast to (row pair, column pair, plane, y, x).
        self._rows = rows.reshape(2, 1, planes, -1, 1)
        self._columns = columns.reshape(1, 2, planes, 1, -1)
        self._row_weights = torch.from_numpy(tables.row_weights).to(device).reshape(2, 1, -1, 1)
        self._column_weights = torch.from_numpy(tables.column_weights).to(device).reshape(1, 2, 1, 1, -1)
        # In the order of the network; YUV becomes blue, green, red, or the other way round.
        order = -1 if color_order == "bgr" else 1
        u, v = (torch.tensor(f[::order], dtype=torch.int32, device=device) for f in (U_FACTORS, V_FACTORS))
        self._chroma = (u.reshape(-1, 1, 1), v.reshape(-1, 1, 1))
        self._gray = torch.tensor(GRAY_FACTORS, dtype=torch.int32, device=device).reshape(-1, 1, 1)

    def __call__(self, frame: Tensor, target: Tensor) -> None:
        """frame: uint8 (needed rows, bytes of a row). target: the part of the network's input (C, H, W), written to."""
        torch = self._torch
        corners = frame[self._rows, self._columns]
        if self._yuv:
            corners = self._from_yuv(corners)
        elif self._color_order == "bgr":
            corners = corners.flip(2)
        in_rows = (corners * self._column_weights).sum(1, dtype=torch.int32) >> ROW_SUM_SHIFT
        in_columns = ((in_rows * self._row_weights) >> COLUMN_SHIFT).sum(0, dtype=torch.int32)
        pixels = (in_columns + (1 << LAST_SHIFT >> 1)) >> LAST_SHIFT
        if self._color_order == "gray" and pixels.shape[0] > 1:
            pixels = (pixels * self._gray).sum(0, keepdim=True, dtype=torch.int32)
            pixels = (pixels + (1 << GRAY_SHIFT >> 1)) >> GRAY_SHIFT
        # float32 whatever the network takes: a half loses bits only once, in the end.
        target.copy_(pixels * self._factor + self._shift)

    def _from_yuv(self, yuv: Tensor) -> Tensor:
        """Planes Y, U, V (…, 3, H, W) to red, green, blue in the network's order, int32 of 0..255."""
        y, u, v = yuv.int().split(1, dim=2)
        luma = (y - Y_OFFSET).clamp_(min=0) * Y_FACTOR + (1 << YUV_SHIFT >> 1)
        u_factors, v_factors = self._chroma
        chroma = (u - CHROMA_OFFSET) * u_factors + (v - CHROMA_OFFSET) * v_factors
        return ((luma + chroma) >> YUV_SHIFT).clamp_(0, 255)
