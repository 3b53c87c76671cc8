"""A drawing of the scene without OpenGL, so that commands which always make videos also work where nothing can be rendered."""

import numpy as np
from numpy.typing import NDArray

BACKGROUND, GROUND, BLOCK, OPEN_TOOL, CLOSED_TOOL = (245, 245, 245), (200, 200, 200), (150, 75, 150), (40, 90, 200), (200, 90, 40)
# Workspace in view: x (m) to the right; upper half y (m) from above, lower half z (m) from the side.
X_RANGE_M, Y_RANGE_M, Z_RANGE_M = (0.15, 0.65), (-0.35, 0.35), (-0.02, 0.5)
BLOCK_HALF_SIZE_M = 0.02
TOOL_HALF_SIZE_M = 0.012


def draw(block_m: NDArray[np.float64], tool_m: NDArray[np.float64], gripper: float, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """View from above (upper half) and from the side (lower half).

    Args:
        block_m, tool_m: ``(3,)`` positions.
        gripper: 0 open, 1 closed; shown by the tool's colour.

    Returns:
        ``(height_px, width_px, 3)`` uint8.
    """
    image = np.full((height_px, width_px, 3), BACKGROUND, dtype=np.uint8)
    half = height_px // 2
    image[half] = GROUND
    tool_colour = CLOSED_TOOL if gripper > 0.5 else OPEN_TOOL
    for view, axis, low_high in ((image[:half], 1, Y_RANGE_M), (image[half + 1 :], 2, Z_RANGE_M)):
        for centre, size, colour in ((block_m, BLOCK_HALF_SIZE_M, BLOCK), (tool_m, TOOL_HALF_SIZE_M, tool_colour)):
            columns = _pixels(centre[0], size, X_RANGE_M, view.shape[1])
            rows = _pixels(centre[axis], size, low_high, view.shape[0])
            view[::-1][rows, columns] = colour
    return image


def _pixels(centre_m: float, half_size_m: float, range_m: tuple[float, float], size_px: int) -> slice:
    low, high = (
        int(np.clip((edge - range_m[0]) / (range_m[1] - range_m[0]) * size_px, 0, size_px - 1))
        for edge in (centre_m - half_size_m, centre_m + half_size_m)
    )
    return slice(low, high + 1)
