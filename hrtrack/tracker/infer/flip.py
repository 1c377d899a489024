"""The flip test: every crop is seen a second time as its mirror image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...models.decode import decode
from ...models.flip import averaged

if TYPE_CHECKING:
    from . import PoseNetwork


class FlipTest:
    """A pose network that averages its heatmaps with those of the mirrored crops.

    Twice the work for a little accuracy (BENCHMARKS.md). The mean is read by the DARK decoder
    outside the graph, so crops and maps pass through memory whatever computes them.
    """

    def __init__(self, network: PoseNetwork) -> None:
        self._network = network
        self.info, self.skeleton = network.info, network.skeleton
        self.input_hw = network.input_hw

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """Crops (N, H, W, 3) -> ``keypoints`` (N, K, 3), on request ``heatmaps``; N may be 0."""
        if len(crops_NHW3) == 0:
            return self._network(crops_NHW3, heatmaps=heatmaps)
        maps = averaged(self._network, self.info, crops_NHW3)
        keypoints = decode(maps, "dark", self.info.sigma, self.info.unbiased)
        keypoints[..., 2] = keypoints[..., 2].clip(0.0, 1.0)
        found = {"keypoints": keypoints.astype(np.float32, copy=False)}
        return {**found, "heatmaps": maps} if heatmaps else found

    def runs_on(self) -> dict[str, str]:
        """The back end with its version, the device and the precision."""
        return self._network.runs_on()

    def describe(self) -> str:
        """One line for the log."""
        return f"{self._network.describe()}, averaged with mirror images"

    def close(self) -> None:
        """Frees the network."""
        self._network.close()
