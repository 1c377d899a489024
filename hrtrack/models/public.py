"""The models that have a name: what each is, where it lies, and what its owners say of it.

Addresses and figures are those of the owners' own pages, named in ``source``. OpenMMLab's .pth
names end in the first eight hex digits of the file's SHA-256, then a date; the digits in its
zips' names are those of the checkpoint inside, so of zips no hash is published. The licence is
that of the owners' repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["pose", "detector", "action"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that has a name.

    ``sha256`` is the hash or its first digits; None if unpublished. ``score`` is in percent by
    ``measure``, as ``source`` has it; ``gmac`` are billions of multiply-adds for one input,
    ``params`` millions of parameters; ``run_here`` says whether the project ever ran the file.
    """

    name: str
    task: Task
    url: str | None
    sha256: str | None
    licence: str
    note: str
    skeleton: str = ""
    input_hw: tuple[int, int] | None = None
    score: float | None = None
    measure: str = ""
    source: str = ""
    gmac: float | None = None
    params: float | None = None
    run_here: bool = False

    @property
    def bundled(self) -> bool:
        return self.url is None

    @property
    def accuracy(self) -> str:
        """The published score with its measure."""
        return f"{self.score:.1f} {self.measure}" if self.score is not None else "not published"


_MMPOSE = "https://download.openmmlab.com/mmpose/"
_OLD = _MMPOSE + "top_down/hrnet/"
_NEW = _MMPOSE + "v1/body_2d_keypoint/topdown_heatmap/"
_ANIMAL = _MMPOSE + "animal/hrnet/"
_HAND = _MMPOSE + "hand/"
_SDK = _MMPOSE + "v1/projects/rtmposev1/onnx_sdk/"
_RTMW = _MMPOSE + "v1/projects/rtmw/onnx_sdk/"
_YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
_APACHE = "Apache-2.0 (repository)"

_COCO = "AP COCO val2017"
_WHOLE = "AP COCO-WholeBody"
_CONFIGS = "mmpose configs/"
_HEATMAP = _CONFIGS + "body_2d_keypoint/topdown_heatmap/"
_RTMPOSE = "mmpose projects/rtmpose/README.md"

_HRNET_FILES = (
    # Folder, file, skeleton, score, measure, page. The mean over joints is MPII's PCKh@0.5.
    (_OLD, "hrnet_w32_coco_256x192-c78dce93_20200708.pth", "coco17", None, _COCO, ""),
    (_OLD, "hrnet_w48_coco_256x192-b9e0b3ab_20200708.pth", "coco17", None, _COCO, ""),
    *(
        (_OLD, file, "mpii16", score, "PCKh@0.5 MPII", _HEATMAP + f"mpii/{page}.md")
        for file, score, page in (
            ("hrnet_w32_mpii_256x256-6c4f923f_20200812.pth", 90.0, "hrnet_mpii"),
            ("hrnet_w32_mpii_256x256_dark-f1601c5b_20200927.pth", 90.4, "hrnet_dark_mpii"),
            ("hrnet_w48_mpii_256x256-92cab7bd_20200812.pth", 90.1, "hrnet_mpii"),
            ("hrnet_w48_mpii_256x256_dark-0decd39f_20200927.pth", 90.5, "hrnet_dark_mpii"),
        )
    ),
    *(
        (_NEW + "coco/", f"td-hm_{file}.pth", "coco17", score, _COCO,
         page and _HEATMAP + f"coco/{page}.md")
        for file, score, page in (
            ("hrnet-w32_8xb64-210e_coco-256x192-81c58e40_20220909", 74.9, "hrnet_coco"),
            ("hrnet-w32_8xb64-210e_coco-384x288-ca5956af_20220909", 76.1, "hrnet_coco"),
            ("hrnet-w32_8xb64-210e_coco-aic-256x192-merge-a9ea6d77_20230818", 75.6,
             "hrnet_coco_aic"),
            ("hrnet-w32_8xb64-210e_coco-aic-256x192-merge-b05435b9_20221025", None, ""),
            ("hrnet-w32_dark-8xb64-210e_coco-256x192-0e00bf12_20220914", 75.7, "hrnet_dark_coco"),
            ("hrnet-w32_dark-8xb64-210e_coco-384x288-9bab4c9b_20220917", 76.6, "hrnet_dark_coco"),
            ("hrnet-w32_fp16-8xb64-210e_coco-256x192-f1e84e3b_20220914", 74.9, "hrnet_fp16_coco"),
            ("hrnet-w32_udp-8xb64-210e_coco-256x192-73ede547_20220914", 76.2, "hrnet_udp_coco"),
            ("hrnet-w32_udp-8xb64-210e_coco-384x288-9a3f7c85_20220914", 76.8, "hrnet_udp_coco"),
            ("hrnet-w48_8xb32-210e_coco-256x192-0e67c616_20220913", 75.6, "hrnet_coco"),
            ("hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915", 76.7, "hrnet_coco"),
            ("hrnet-w48_dark-8xb32-210e_coco-256x192-e1ebdd6f_20220913", 76.4, "hrnet_dark_coco"),
            ("hrnet-w48_dark-8xb32-210e_coco-384x288-39c3c381_20220916", 77.2, "hrnet_dark_coco"),
            ("hrnet-w48_udp-8xb32-210e_coco-256x192-3feaef8f_20220913", 76.8, "hrnet_udp_coco"),
            ("hrnet-w48_udp-8xb32-210e_coco-384x288-70d7ab01_20220913", 77.3, "hrnet_udp_coco"),
        )
    ),
    *(
        (_NEW + "human_art/", f"td-hm_hrnet-{file}.pth", "coco17", score, _COCO,
         _HEATMAP + "humanart/hrnet_humanart.md")
        for file, score in (
            ("w32_8xb64-210e_humanart-256x192-0773ef0b_20230614", 74.1),
            ("w48_8xb32-210e_humanart-256x192-05178983_20230614", 75.1),
        )
    ),
    *(
        (_OLD, f"hrnet_{file}.pth", "wholebody133", score, _WHOLE,
         _CONFIGS + f"wholebody_2d_keypoint/topdown_heatmap/coco-wholebody/{page}.md")
        for file, score, page in (
            ("w32_coco_wholebody_256x192-853765cd_20200918", 53.6, "hrnet_coco-wholebody"),
            ("w32_coco_wholebody_384x288-78cacac3_20200922", 58.6, "hrnet_coco-wholebody"),
            ("w48_coco_wholebody_256x192-643e18cb_20200922", 57.9, "hrnet_coco-wholebody"),
            ("w48_coco_wholebody_384x288-6e061c6a_20200922", 63.2, "hrnet_coco-wholebody"),
            ("w32_coco_wholebody_256x192_dark-469327ef_20200922", 58.2,
             "hrnet_dark_coco-wholebody"),
            ("w48_coco_wholebody_384x288_dark-f5726563_20200918", 66.1,
             "hrnet_dark_coco-wholebody"),
        )
    ),
    (_OLD, "hrnet_w32_aic_256x192-30a4e465_20200826.pth", "aic14", 32.3, "AP AIC val",
     _HEATMAP + "aic/hrnet_aic.md"),
    (_OLD, "hrnet_w32_crowdpose_256x192-960be101_20201227.pth", "crowdpose14", 67.5,
     "AP CrowdPose test", _HEATMAP + "crowdpose/hrnet_crowdpose.md"),
    *(
        (_ANIMAL, f"hrnet_{file}.pth", "ap10k17", score, "AP AP-10K val",
         _CONFIGS + "animal_2d_keypoint/topdown_heatmap/ap10k/hrnet_ap10k.md")
        for file, score in (
            ("w32_ap10k_256x256-18aac840_20211029", 72.2),
            ("w48_ap10k_256x256-d95ab412_20211029", 72.8),
        )
    ),
    *(
        (_HAND + f"{folder}/", f"hrnetv2_w18_onehand10k_256x256{file}_20210330.pth", "onehand21",
         99.0, "PCK@0.2 OneHand10K",
         _CONFIGS + f"hand_2d_keypoint/topdown_heatmap/onehand10k/{page}_onehand10k.md")
        for folder, file, page in (
            ("hrnetv2", "-30bc9c6b", "hrnetv2"),
            ("dark", "_dark-a2f80c64", "hrnetv2_dark"),
            ("udp", "_udp-0d1b515d", "hrnetv2_udp"),
        )
    ),
)  # fmt: skip
_HRNET_SIZE = {"w18": (9.6, 3.46), "w32": (28.5, 7.10), "w48": (63.6, 14.6)}
"""Millions of parameters, and GMAC at 256x192 (Sun et al., CVPR 2019, table 1; HRNetV2-W18 was
counted here)."""

_BODY = "rtmpose-{}_simcc-body7_pt-body7_{}.zip"
_FEET = "rtmpose-{}_simcc-body7_pt-body7-halpe26_700e-{}.zip"
_ART = "rtmpose-{}_8xb256-420e_humanart-256x192-{}.zip"
_DWPOSE = "rtmpose-{}_simcc-ucoco_dw-ucoco_270e-{}.zip"
_COCKTAIL = "rtmw-dw-{}_simcc-cocktail14_270e-{}_20231122.zip"
_PCK = "PCK@0.1 Body8"
_SIMCC_FILES = (
    # Name, address, skeleton, score, measure, GMAC, millions of parameters.
    *(
        (f"rtmpose_{size}_coco_{hw}", _SDK + _BODY.format(size, rest), "coco17", ap, _COCO, gmac, m)
        for size, hw, rest, ap, gmac, m in (
            ("t", "256x192", "420e-256x192-026a1439_20230504", 65.9, 0.36, 3.34),
            ("s", "256x192", "420e-256x192-acd4a1ef_20230504", 69.7, 0.68, 5.47),
            ("m", "256x192", "420e-256x192-e48f03d0_20230504", 74.9, 1.93, 13.59),
            ("l", "256x192", "420e-256x192-4dba18fc_20230504", 76.7, 4.16, 27.66),
            ("m", "384x288", "420e-384x288-65e718c4_20230504", 76.6, 4.33, 13.72),
            ("l", "384x288", "420e-384x288-3f5a1437_20230504", 78.3, 9.35, 27.79),
            ("x", "384x288", "700e-384x288-71d7b7e9_20230629", 78.8, 17.22, 49.43),
        )
    ),
    *(
        (f"rtmpose_{size}_halpe26_{rest[:7]}", _SDK + _FEET.format(size, rest), "halpe26", pck,
         _PCK, gmac, m)
        for size, rest, pck, gmac, m in (
            ("t", "256x192-6020f8a6_20230605", 91.89, 0.37, 3.51),
            ("s", "256x192-7f134165_20230605", 93.01, 0.70, 5.70),
            ("m", "256x192-4d3e73dd_20230605", 94.75, 1.95, 13.93),
            ("l", "256x192-2abb7558_20230605", 95.37, 4.19, 28.11),
            ("m", "384x288-89e6428b_20230605", 95.15, 4.37, 14.06),
            ("l", "384x288-734182ce_20230605", 95.56, 9.40, 28.24),
            ("x", "384x288-7fb6e239_20230606", 95.74, 17.29, 50.00),
        )
    ),
    *(
        (f"rtmpose_{size}_humanart_256x192", _SDK + _ART.format(size, rest), "coco17", ap,
         "AP Human-Art, labelled boxes", gmac, m)
        for size, rest, ap, gmac, m in (
            ("t", "60b68c98_20230612", 65.5, 0.36, 3.34),
            ("s", "5a3ac943_20230611", 69.8, 0.68, 5.47),
            ("m", "8430627b_20230611", 72.8, 1.93, 13.59),
            ("l", "389f2cb0_20230611", 75.3, 4.16, 27.66),
        )
    ),
    *(
        (f"dwpose_{size}_wholebody_{rest[:7]}", _SDK + _DWPOSE.format(size, rest), "wholebody133",
         ap, _WHOLE, gmac, None)
        for size, rest, ap, gmac in (
            ("t", "256x192-dcf277bf_20230728", 48.5, 0.5),
            ("s", "256x192-3fd922c8_20230728", 53.8, 0.9),
            ("m", "256x192-c8b76419_20230728", 60.6, 2.22),
            ("l", "256x192-4d6dfc62_20230728", 63.1, 4.52),
            ("l", "384x288-2438fd99_20230728", 66.5, 10.07),
        )
    ),
    *(
        (f"rtmw_{size}_wholebody_{hw}", _RTMW + _COCKTAIL.format(file, hw), "wholebody133", ap,
         _WHOLE, gmac, None)
        for size, file, hw, ap, gmac in (
            ("m", "m-s", "256x192", 58.2, 4.3),
            ("l", "x-l", "256x192", 66.0, 7.9),
            ("l", "x-l", "384x288", 70.1, 17.7),
        )
    ),
    ("rtmpose_m_ap10k_256x256",
     _SDK + "rtmpose-m_simcc-ap10k_pt-aic-coco_210e-256x256-7a041aa1_20230206.zip", "ap10k17",
     72.2, "AP AP-10K val", 2.57, None),
    ("rtmpose_m_onehand_256x256",
     _SDK + "rtmpose-m_simcc-hand5_pt-aic-coco_210e-256x256-74fb594_20230320.zip", "onehand21",
     96.4, "PCK@0.2 Hand5", 2.581, None),
)  # fmt: skip

_DETECTOR_FILES = (
    # Address, input side, score, measure, source, GMAC, millions of parameters, run here.
    *(
        (
            _SDK + f"yolox_{file}.zip",
            side,
            ap,
            "AP person, Human-Art table",
            _RTMPOSE,
            None,
            None,
            False,
        )
        for file, side, ap in (
            ("nano_8xb8-300e_humanart-40f6f0d0", 416, 38.9),
            ("tiny_8xb8-300e_humanart-6f3252f9", 416, 47.7),
            ("s_8xb8-300e_humanart-3ef259a7", 640, 54.6),
            ("m_8xb8-300e_humanart-c2c7a14a", 640, 59.1),
            ("l_8xb8-300e_humanart-ce1d7a62", 640, 60.2),
            ("x_8xb8-300e_humanart-a39d44ed", 640, 61.3),
        )
    ),
    (
        _SDK + "rtmdet_nano_8xb32-300e_hand-267f9c8f.zip",
        320,
        76.0,
        "AP hands, OneHand10K",
        _RTMPOSE,
        0.31,
        None,
        False,
    ),
    *(
        (_YOLOX + f"yolox_{size}.onnx", side, ap, _COCO, "YOLOX README.md", flops / 2, m, here)
        for size, side, ap, flops, m, here in (
            ("nano", 416, 25.8, 1.08, 0.91, True),
            ("tiny", 416, 32.8, 6.45, 5.06, False),
            ("s", 640, 40.5, 26.8, 9.0, False),
        )
    ),
)


def _sides(name: str) -> tuple[int, int]:
    height, width = name.split("x")
    return int(height), int(width)


def _hrnet(
    base: str, file: str, skeleton: str, score: float | None, measure: str, page: str
) -> Entry:
    stem, digits = file.removesuffix(".pth").rsplit("_", 1)[0].rsplit("-", 1)
    # Two releases share everything but the hash.
    name = f"{stem}-{digits}" if "coco-aic" in stem else stem
    hw = _sides(
        next(
            part
            for part in stem.replace("-", "_").split("_")
            if part[:1].isdigit() and part.count("x") == 1 and part.replace("x", "").isdigit()
        )
    )
    params, gmac = next(size for width, size in _HRNET_SIZE.items() if width in stem)
    return Entry(
        name, "pose", base + file, digits, _APACHE, "OpenMMLab HRNet", skeleton, hw, score, measure,
        page, round(gmac * hw[0] * hw[1] / (256 * 192), 1), params,
    )  # fmt: skip


def _simcc(
    name: str, url: str, skeleton: str, score: float, measure: str, gmac: float,
    params: float | None,
) -> Entry:  # fmt: skip
    return Entry(
        name, "pose", url, None, _APACHE, "OpenMMLab SimCC", skeleton,
        _sides(name.rsplit("_", 1)[1]), score, measure, _RTMPOSE, gmac, params,
    )  # fmt: skip


def _detector(
    url: str, side: int, score: float, measure: str, source: str, gmac: float | None,
    params: float | None, here: bool,
) -> Entry:  # fmt: skip
    name = url.rsplit("/", 1)[1].removesuffix(".onnx").removesuffix(".zip")
    name = name.rsplit("-", 1)[0] if url.endswith(".zip") else name
    owner = "OpenMMLab YOLOX, Human-Art" if url.startswith(_SDK) else "Megvii YOLOX, COCO"
    owner = "OpenMMLab RTMDet, hands" if "hand" in name else owner
    return Entry(
        name, "detector", url, None, _APACHE, owner, "", (side, side), score, measure, source, gmac,
        params, here,
    )  # fmt: skip


PUBLIC: tuple[Entry, ...] = (
    *(_simcc(*row) for row in _SIMCC_FILES),
    *(_hrnet(*row) for row in _HRNET_FILES),
    *(_detector(*row) for row in _DETECTOR_FILES),
)

BUNDLED = {
    entry.name: entry
    for entry in (
        Entry(
            "body_fast", "pose", None, None, "Apache-2.0", "bundled", "coco17", (192, 128), 46.4,
            "AP, 125 people of COCO", "its model card", 1.23, 5.2, True,
        ),
        Entry(
            "person_fast", "detector", None, None, "Apache-2.0", "bundled", "", (288, 512), 42.8,
            "AP, 45 photos of COCO", "its model card", 1.32, 3.3, True,
        ),
        Entry(
            "action_penn", "action", None, None, "Apache-2.0", "bundled", "action13", None, 96.3,
            "top-1 Penn Action", "its model card", None, 0.17, True,
        ),
    )
}  # fmt: skip
