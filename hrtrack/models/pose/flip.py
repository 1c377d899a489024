"""The flip test: the heatmaps of crops are averaged with those of their mirror images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..info import PoseInfo
from ..network import Network, SharedNetwork
from .decode import STRIDE, decode, flip_average
from .simcc import decode_simcc, joint_maps, mirror_mean

if TYPE_CHECKING:
    from ..network import PoseNetwork


Align = Literal["exact", "column", "none"]


def averaged(
    network: Network,
    info: PoseInfo,
    crops_NHW3: NDArray[np.uint8],
    align: Align = "exact",
    border: int = 0,
) -> NDArray[np.float32]:
    """Heatmaps (N, K, H/4, W/4): the mean of a crop's and its mirror image's, turned back.

    Args:
        network: what ``info`` describes.
        info: its joints, and whether it was trained with UDP's coordinates, of which the cells
            mirror onto cells as they are.
        crops_NHW3: N crops, of which the network sees 2 N.
        align: ``exact`` mirrors the crop so that cells fall on cells (`mirrored`), ``column`` moves
            the maps by a column as the official code does, ``none`` leaves them.
        border: grey level outside the photo.
    """
    align = "none" if info.unbiased else align
    turned = mirrored(crops_NHW3, border) if align == "exact" else crops_NHW3[:, :, ::-1]
    both = network(np.concatenate([crops_NHW3, turned]), heatmaps=True)["heatmaps"]
    maps, of_mirrored = np.split(both, 2)
    return flip_average(maps, of_mirrored, info.skeleton.mirror, shift=align == "column")


def mirrored(crops_NHW3: NDArray[np.uint8], border: int = 0) -> NDArray[np.uint8]:
    """The mirror images of crops (N, H, W, 3) about the middle of their heatmap cells.

    Cell u stands for pixel 4 u, and reversing all W columns puts it at W - 1 - 4 u, between
    two cells: Huang et al. ("The Devil is in the Details", CVPR 2020, UDP) show what that costs.
    About the middle of the cells pixel x goes to W - 4 - x, for which the first three columns
    leave the crop and three of the grey level ``border`` enter.
    """
    spare = STRIDE - 1
    turned = np.full_like(crops_NHW3, border)
    turned[:, :, :-spare] = crops_NHW3[:, :, ::-1][:, :, spare:]
    return turned


def averaged_bins(
    network: Network, info: PoseInfo, crops_NHW3: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """``keypoints`` (N, K, 3), scores not clipped, and ``heatmaps`` of a SimCC network's flip test.

    Bins of reversed crops fall on bins, so nothing has to be moved.
    """
    both = network(np.concatenate([crops_NHW3, crops_NHW3[:, :, ::-1]]), heatmaps=True)
    bins = mirror_mean(both["simcc_x"], both["simcc_y"], info.skeleton.mirror, info.split)
    how = info.split, info.certain
    return {"keypoints": decode_simcc(*bins, *how), "heatmaps": joint_maps(*bins, *how)}


class FlipTest:
    """A pose network that averages its heatmaps or bins with those of the mirrored crops.

    Twice the work for a little accuracy (docs/benchmarks.md). The mean is read by the DARK or SimCC
    decoder outside the graph, so crops and maps pass through memory whatever computes them.
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
        if self.info.split:
            read = averaged_bins(self._network, self.info, crops_NHW3)
            keypoints, maps = read["keypoints"], read["heatmaps"]
        else:
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

    def share(self, streams: int) -> None:
        """Passes it on to the network, if that can divide the cores."""
        if isinstance(self._network, SharedNetwork):
            self._network.share(streams)

    def make_room(self) -> None:
        """Passes it on to the network, if that can divide the cores."""
        if isinstance(self._network, SharedNetwork):
            self._network.make_room()

    def close(self) -> None:
        """Frees the network."""
        self._network.close()
