"""Do the GPU and the CPU say the same? On drawn crops; on photos see `benchmarks.gpu.lspe`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hrtrack import geometry
from hrtrack.models import agreement
from hrtrack.skeleton import COCO17
from hrtrack.tracker.inference.estimate_gpu import sample_crops

from .scenes import CROP_HW, crop_maps, scene
from .session import Session

Found = tuple[NDArray[np.float32], NDArray[np.float32]]
LIKELY = 0.3


def parity(session: Session) -> None:
    """float16 in CUDA graphs against float32 on the CPU; the crops; the detector."""
    for name in session.models:
        with session.attempt("parity", name):
            expected, network = session.reference(name), session.back_end(name)
            crops = agreement.drawn_crops(network.input_hw, 16)
            found = agreement.compare(
                expected(crops)["keypoints"], network(crops)["keypoints"], COCO17, network.input_hw
            )
            session.put("parity", name, str(found))
            network.close()
    image, boxes = scene(5, 0)
    here = torch.from_numpy(image)
    cut = [
        sample_crops(place, crop_maps(boxes), CROP_HW).cpu().short()
        for place in (here, here.to(session.device))
    ]
    session.put("parity", "crops, greatest difference", int((cut[0] - cut[1]).abs().max()))
    pairs = [(session.detector("cpu")(image), session.detector()(image))]
    session.put("parity", "person_fast", detector_agreement(pairs))


def detector_agreement(pairs: list[tuple[Found, Found]]) -> dict[str, float]:
    """How well the second finding of each picture covers the likely people of the first."""
    overlaps, scores = [np.empty(0)], [np.empty(0)]
    for (boxes, likely), (others, theirs) in pairs:
        kept = likely > LIKELY
        overlap = geometry.iou(boxes[kept], others)
        overlaps.append(overlap.max(axis=1, initial=0.0))
        if len(others):
            scores.append(np.abs(likely[kept] - theirs[overlap.argmax(axis=1)]))
    best, apart = np.concatenate(overlaps), np.concatenate(scores)
    if not len(best):
        return {"people": 0}
    return {
        "people": len(best),
        "mean_iou": round(float(best.mean()), 4),
        "share_above_0.9_iou": round(float((best > 0.9).mean()), 4),
        "mean_score_difference": round(float(apart.mean()), 4) if len(apart) else 1.0,
    }
