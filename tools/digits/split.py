"""The data: scikit-learn's digits and scikit-image's photographs, split into train and held-out, and the shipped part.

Run as a script it writes two things: the training data as one .npz (for train.py, possibly on another machine) and
the held-out data that the package ships.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from sklearn.datasets import load_digits

HELDOUT_DIGITS = 360
"""The last 360 of the 1797 samples are held out: a contiguous block, because the data is ordered by writer."""

TRAIN_PHOTOS = ("astronaut", "camera", "grass", "gravel", "hubble_deep_field", "retina", "rocket")
HELDOUT_PHOTOS = ("brick", "chelsea", "coffee")
"""All inside scikit-image's wheel, all CC0 or public domain; none with printed digits on it."""

_SHIPPED_LONGER_SIDE_PX = 640
_JPEG_QUALITY = 88


def load_photo(name: str) -> NDArray[np.uint8]:
    """Loads one of scikit-image's photographs as uint8 (h, w, 3) BGR, its longer side at most 640 px."""
    pixels = np.asarray(getattr(skimage.data, name)(), dtype=np.uint8)
    code = cv2.COLOR_GRAY2BGR if pixels.ndim == 2 else cv2.COLOR_RGB2BGR
    bgr = cv2.cvtColor(pixels, code)
    zoom = min(1.0, _SHIPPED_LONGER_SIDE_PX / max(bgr.shape[:2]))
    size = (round(bgr.shape[1] * zoom), round(bgr.shape[0] * zoom))
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def load_split_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], slice, slice]:
    """Returns images uint8 (1797, 8, 8), labels int64 (1797,), and the slices of train and held-out samples."""
    bunch = load_digits()
    boundary = len(bunch.target) - HELDOUT_DIGITS
    return bunch.images.astype(np.uint8), bunch.target.astype(np.int64), slice(0, boundary), slice(boundary, None)


def write_training_data(path: Path) -> None:
    """Writes digits, labels and photographs to train on as one .npz; photographs as photo_NAME."""
    images, labels, train, _ = load_split_digits()
    photos: dict[str, Any] = {f"photo_{name}": load_photo(name) for name in TRAIN_PHOTOS}
    np.savez_compressed(path, images=images[train], labels=labels[train], **photos)


def write_heldout_data(folder: Path) -> None:
    """Writes heldout_digits.npz and heldout_photo_NAME.jpg, what the package ships."""
    images, labels, _, heldout = load_split_digits()
    np.savez_compressed(folder / "heldout_digits.npz", images=images[heldout], labels=labels[heldout].astype(np.uint8))
    for name in HELDOUT_PHOTOS:
        path = folder / f"heldout_photo_{name}.jpg"
        if not cv2.imwrite(str(path), load_photo(name), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
            raise OSError(f"could not write {path}; check that the folder exists and is writable")


def main() -> None:
    """Parses the command line and writes both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True, help="the .npz to write the training data to")
    parser.add_argument("--heldout", type=Path, help="folder for the held-out data (trt_perception/data)")
    arguments = parser.parse_args()
    write_training_data(arguments.train)
    if arguments.heldout is not None:
        write_heldout_data(arguments.heldout)


if __name__ == "__main__":
    main()
