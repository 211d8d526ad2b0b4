"""Patient geometry: bring volumes into one orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def to_radiological(
    values: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Turn a volume by flips and transposes only, without resampling.

    Args:
        values: `(C, i, j, k)`.
        affine: 4x4, voxel indices (i, j, k) to millimetres in RAS+ (right, anterior, superior).

    Returns:
        `(C, D, H, W)` with D from inferior to superior, H from anterior to posterior and W from
        patient right to left, so that a plane at fixed D is an axial slice as radiologists view
        it; and the voxel size (D, H, W) in mm.
    """
    import numpy as np
    from nibabel import orientations

    stored = orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    wanted = orientations.axcodes2ornt("LPS")  # type: ignore[no-untyped-call]
    change = orientations.ornt_transform(stored, wanted)  # type: ignore[no-untyped-call]
    turned = [
        orientations.apply_orientation(channel, change)  # type: ignore[no-untyped-call]
        for channel in values
    ]
    # One channel is the usual case and large: no copy but the one below.
    cube = turned[0][None] if len(turned) == 1 else np.stack(turned)
    size = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    x, y, z = (
        round(float(size[int(np.flatnonzero(stored[:, 0] == axis)[0])]), 6) for axis in range(3)
    )
    volume = np.ascontiguousarray(cube.transpose(0, 3, 2, 1), dtype=np.float32)
    return volume, (z, y, x)
