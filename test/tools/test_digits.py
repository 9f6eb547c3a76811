"""The tools that made the demo model: what was held out stayed out, and the loss rewards what it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trt_perception.evaluation import pairwise_iou
from trt_perception.scenes import heldout_data


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


def test_the_shipped_digits_are_the_held_out_ones_and_none_was_trained_on() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which the digits come from, is not installed")
    pytest.importorskip("skimage", reason="scikit-image, which the photographs come from, is not installed")
    from tools.digits.split import HELDOUT_PHOTOS, TRAIN_PHOTOS, load_split_digits

    images, labels, train, heldout = load_split_digits()
    shipped, photos = heldout_data()
    np.testing.assert_array_equal(shipped.images, images[heldout])
    np.testing.assert_array_equal(shipped.labels, labels[heldout])
    trained = {image.tobytes() for image in images[train]}
    assert not any(image.tobytes() in trained for image in shipped.images)
    assert len(photos) == len(HELDOUT_PHOTOS)
    assert not set(HELDOUT_PHOTOS) & set(TRAIN_PHOTOS)


def test_iou_is_the_same_as_in_the_evaluation(torch: Any) -> None:
    from tools.digits.loss import complete_iou, intersection_over_union

    rng = np.random.default_rng(0)
    centers, sizes = rng.uniform(0, 50, (20, 2)), rng.uniform(5, 60, (20, 2))
    cxcywh = torch.from_numpy(np.hstack([centers, sizes]).astype(np.float32))
    xyxy = np.hstack([centers - sizes / 2, centers + sizes / 2]).astype(np.float32)
    ours = intersection_over_union(cxcywh[:, None], cxcywh[None])
    np.testing.assert_allclose(ours.numpy(), pairwise_iou(xyxy, xyxy), atol=1e-5)
    np.testing.assert_allclose(complete_iou(cxcywh, cxcywh).numpy(), 1.0, atol=1e-5)
    shifted = cxcywh + torch.tensor([5.0, 0.0, 0.0, 0.0])
    assert (complete_iou(shifted, cxcywh) < intersection_over_union(shifted, cxcywh)).all()


def test_the_loss_is_small_for_the_truth_and_even_a_thin_digit_between_cells_is_assigned(torch: Any) -> None:
    from tools.digits.loss import Targets, detection_loss
    from tools.digits.network import CLASS_COUNT, STRIDES_PX, Predictions, cell_centers

    side_px = 160
    centers, _ = cell_centers([(side_px // s, side_px // s) for s in STRIDES_PX], torch.device("cpu"))
    cells = centers.shape[1]
    thin = torch.tensor([[[80.0, 80.0, 3.0, 14.0], [0.0, 0.0, 0.0, 0.0]]])  # cells lie at 76 and 84
    targets = Targets(thin, torch.tensor([[7, 0]]), torch.tensor([[True, False]]))
    boxes = torch.cat([centers.T, torch.full((cells, 2), 24.0)], dim=1)[None]
    logits = torch.full((1, cells, CLASS_COUNT), -12.0, requires_grad=True)
    detection_loss(Predictions(logits, boxes), centers, targets)[0].backward()  # type: ignore[no-untyped-call]
    wanted = torch.nonzero(logits.grad < 0)
    assert set(wanted[:, 2].tolist()) == {7}

    cell = int((centers.T - thin[0, 0, :2]).abs().sum(dim=1).argmin())
    right_logits, right_boxes = torch.full((1, cells, CLASS_COUNT), -12.0), boxes.clone()
    right_logits[0, cell, 7] = 12.0
    right_boxes[0, cell] = thin[0, 0]
    score_loss, box_loss = detection_loss(Predictions(right_logits, right_boxes), centers, targets)
    assert float(score_loss + box_loss) < 0.1


def test_folding_batch_norm_changes_no_output(torch: Any) -> None:
    from tools.digits.export import ExportedNet
    from tools.digits.network import DigitNet

    torch.manual_seed(0)
    network = DigitNet()
    images = torch.rand(2, 3, 320, 320)
    with torch.no_grad():
        network(images)  # in training mode: gives batch norm statistics other than 0 and 1
        expected = network.eval()(images)
        output = ExportedNet(network).eval()(images)
    assert output.shape == (2, 14, 2100)
    np.testing.assert_allclose(output[:, :4].transpose(1, 2).numpy(), expected.boxes_cxcywh.numpy(), atol=1e-3)
    np.testing.assert_allclose(output[:, 4:].transpose(1, 2).numpy(), expected.logits.sigmoid().numpy(), atol=1e-4)
