"""The detector's parameters, one line each; config/detector.yaml shows them to users."""

from __future__ import annotations

from trt_perception.models import DEMO_MODEL
from trt_perception.ros.parameters import ParameterSpec
from trt_perception.ros.real_time import ANY_CORE
from trt_perception.types import Thresholds

CLASS_ID_FORMATS = ("name", "index")
IMAGE_TRANSPORTS = ("raw", "compressed")

# Declared before the others, because `model` is already read for their defaults.
TRUST_PARAMETERS = [
    ParameterSpec("require_checksum", False, "refuse a model file without a sha256 for every artifact", read_only=True),
    ParameterSpec(
        "model_root",
        (),
        "folders in which the model, what it names, and files named by settings have to lie; empty: anywhere",
        read_only=True,
    ),
]


def detector_parameters(thresholds: Thresholds) -> list[ParameterSpec]:
    """The table; thresholds are those of the model file, which hold until the user sets others."""
    return [
        ParameterSpec("model", DEMO_MODEL, "model file (.yaml), bare artifact, or the name of a shipped model"),
        ParameterSpec(
            "backends",
            ("onnxruntime",),
            "NAME[:DEVICE][:PRECISION], the first is wanted, the others run only with allow_fallback",
        ),
        ParameterSpec(
            "allow_fallback", False, "another device, or the next of `backends`, may run instead; it is announced"
        ),
        ParameterSpec(
            "max_consecutive_errors",
            5,
            "frames in a row whose inference fails before another backend runs (allow_fallback) or the node becomes "
            "inactive; 0: never",
            0,
            1_000_000,
        ),
        ParameterSpec(
            "backend_retry_s",
            60.0,
            "a backend that failed is tried again after so long; 0: only when ~/retry_backends is called",
            0,
            1e9,
        ),
        ParameterSpec(
            "warm_fallback",
            False,
            "keep the next of `backends` open, which takes its memory too, so that it takes over at once",
        ),
        ParameterSpec(
            "inference_timeout_s",
            2.0,
            "an inference that takes longer hangs: the process is ended so that it can be started again; 0: never",
            0,
            1e9,
        ),
        ParameterSpec("image_timeout_s", 1.5, "no image for so long is an error in /diagnostics", 0.01, 1e9),
        ParameterSpec(
            "score_threshold", thresholds.score, "candidates above it count, 0-1; default: the model file's", 0, 1
        ),
        ParameterSpec(
            "iou_threshold",
            thresholds.iou,
            "overlap above which the weaker of two boxes of a class goes, 0-1; default: the model file's",
            0,
            1,
        ),
        ParameterSpec("max_detections", thresholds.max_detections, "boxes per image at most, best first", 1, 100_000),
        ParameterSpec(
            "class_id_format",
            "name",
            "what class_id holds: the class's name or its index",
            choices=CLASS_ID_FORMATS,
        ),
        ParameterSpec(
            "annotate_latency",
            False,
            "write the latency and, from control_budget, the share of the control period on annotated_image",
        ),
        ParameterSpec(
            "image_transport",
            "raw",
            "raw: sensor_msgs/Image on `image`; compressed: sensor_msgs/CompressedImage on `image`/compressed",
            choices=IMAGE_TRANSPORTS,
            read_only=True,
        ),
        ParameterSpec(
            "max_image_age_ms", 0.0, "images older than this when their turn comes are dropped; 0: off", 0, 1e9
        ),
        ParameterSpec(
            "max_inference_share",
            0.0,
            "frames are skipped so that inference takes at most this share of the time; 0: off",
            0,
            1,
        ),
        ParameterSpec(
            "camera_names",
            (),
            "one `<name>/image` subscription each, outputs likewise; empty, or one empty name: one camera on `image`",
            read_only=True,
        ),
        ParameterSpec(
            "max_batch",
            0,
            "frames of several cameras in one run of the network at most; 0: one of each; 1: never together",
            0,
            256,
            read_only=True,
        ),
        ParameterSpec(
            "max_batch_wait_ms",
            0.0,
            "how long the first frame of a batch waits for those of the other cameras; 0: takes what is there",
            0,
            1000,
            read_only=True,
        ),
        ParameterSpec(
            "cpu_affinity", (ANY_CORE,), "numbers of the cores that the process runs on; -1 alone: any", read_only=True
        ),
        ParameterSpec(
            "scheduler_priority",
            0,
            "of SCHED_FIFO, for every thread of the process; 0: the system's usual scheduler; needs CAP_SYS_NICE",
            0,
            99,
            read_only=True,
        ),
        ParameterSpec(
            "lock_memory", False, "keep all of the process in RAM (mlockall); needs CAP_IPC_LOCK", read_only=True
        ),
        ParameterSpec(
            "build_engine", False, "build missing TensorRT engines on configure, which takes minutes", read_only=True
        ),
        ParameterSpec(
            "autostart", True, "configure and activate at start; false under a lifecycle manager", read_only=True
        ),
        ParameterSpec(
            "diagnostics_period_s", 1.0, "time between two /diagnostics messages", 0.01, 3600, read_only=True
        ),
    ]
