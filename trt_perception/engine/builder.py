"""TensorRT's builder, configured: the only place where a network is parsed and an engine is made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from trt_perception.atomic_file import write_atomically
from trt_perception.backends.tensorrt_runtime.cuda_session import CudaSession
from trt_perception.backends.tensorrt_runtime.faults import explain
from trt_perception.backends.tensorrt_runtime.library import TensorRt, load_plugins
from trt_perception.backends.tensorrt_runtime.trt_logger import collect, process_logger
from trt_perception.backends.tensorrt_runtime.versions import PROFILE_SHARING
from trt_perception.engine.calibration import make_calibrator
from trt_perception.engine.options import BuildOptions
from trt_perception.engine.parser_report import describe_failure
from trt_perception.engine.progress import LogProgress, Progress, make_monitor
from trt_perception.engine.shapes import Shape, one_picture, profile_for, require_as_fixed, shape_text
from trt_perception.engine.source import Source
from trt_perception.engine.vocabulary import hardware_level, memory_limits, portability_flags, tactic_sources
from trt_perception.errors import BackendError, PerceptionError, WriteError
from trt_perception.model_file import InputSpec

LOG = logging.getLogger(__name__)

_DATA_TYPES = {"fp32": "FLOAT", "fp16": "HALF", "int8": "INT8"}


class NativeBuild:
    """One build, from parsing to the engine's bytes; used inside `with`, under the session's current context."""

    def __init__(
        self, trt: TensorRt, session: CudaSession, options: BuildOptions, source: Source, spec: InputSpec | None
    ) -> None:
        self._trt = trt
        self._library = trt.module
        self._session = session
        self._options = options
        self._source = source
        self._spec = spec
        self._stack = ExitStack()
        self._parser: Any = None
        self._network: Any = None
        self._builder: Any = None

    def __enter__(self) -> NativeBuild:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        # The network's weights live in the parser's copy of the model; each goes before what it was made from.
        self._network = None
        self._parser = None
        self._builder = None

    def run(self, progress: Progress) -> bytes:
        """Parses and builds; raises BackendError with TensorRT's reason and the remedy."""
        with collect() as messages:
            load_plugins(self._library)
            self._builder = self._library.Builder(process_logger(self._library))
            self._network = self._new_network()
            self._parse()
            config = self._configure()
        listener = None
        if self._trt.dialect.progress_monitor:
            monitor = make_monitor(self._trt, progress)
            config.progress_monitor = monitor
            self._stack.callback(_release, monitor)
        else:
            listener = LogProgress(progress, self._network.num_layers)
        with collect(listener) as messages:
            plan = self._builder.build_serialized_network(self._network, config)
            if self._calibrator is not None and self._calibrator.failure is not None:
                raise self._calibrator.failure
            if plan is None:
                raise BackendError(f"{self._trt} could not build {self._options.onnx}: {explain(messages.summary())}")
        self._keep_timings(config)
        return bytes(memoryview(plan))

    def _new_network(self) -> Any:
        flags = self._library.NetworkDefinitionCreationFlag
        value = sum(1 << int(getattr(flags, name)) for name in self._trt.dialect.network_flags)
        return self._builder.create_network(value)

    def _parse(self) -> None:
        logger = process_logger(self._library)
        self._parser = self._library.OnnxParser(self._network, logger)
        if self._parser.parse(self._source.model, str(self._options.onnx)):
            return
        reason = describe_failure(self._trt, self._parser, self._source.model)
        raise PerceptionError(f"{self._options.onnx} cannot be built: {reason}")

    def _configure(self) -> Any:
        options, trt, library = self._options, self._trt, self._library
        config = self._builder.create_builder_config()
        self._keep_in_fp32()
        if self._source.constrain_layers:
            self._constrain_layers()
        for flag in (*self._source.flags, *portability_flags(trt, options)):
            config.set_flag(getattr(library.BuilderFlag, flag))
        if options.no_tf32:
            config.clear_flag(library.BuilderFlag.TF32)
        for pool, size in memory_limits(trt, options):
            config.set_memory_pool_limit(pool, size)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        level = hardware_level(trt, options)
        if level is not None:
            config.hardware_compatibility_level = level
        if options.tactic_sources:
            config.set_tactic_sources(tactic_sources(trt, options, config.get_tactic_sources()))
        config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
        self._calibrator = self._calibration(config, self._add_profile(config))
        self._load_timings(config)
        return config

    def _calibration(self, config: Any, best: Mapping[str, Shape]) -> Any:
        if not self._source.calibrate:
            return None
        batch = self._calibration_batch(best) if self._source.images is not None else 1
        calibrator = make_calibrator(self._trt, self._session, self._source.images, batch, self._options.calib)
        self._stack.callback(calibrator.free)
        config.int8_calibrator = calibrator
        return calibrator

    def _calibration_batch(self, best: Mapping[str, Shape]) -> int:
        """How many pictures TensorRT reads at once; raises PerceptionError where they do not fit the network.

        Without a calibration profile it runs the network at the best shape; whatever lies behind fewer pictures would
        count as well and make the ranges far too small. A calibration profile of one picture is no way out: 8.6
        says yes to it and passes it over where the smallest shape has more.
        """
        assert self._source.images is not None
        tensor = self._network.get_input(0)
        network: Shape = best.get(tensor.name, tuple(tensor.shape))
        wanted = self._source.images.spec.batch_shape
        if self._network.num_inputs != 1 or network[1:] != wanted[1:] or tensor.dtype != self._library.DataType.FLOAT:
            raise PerceptionError(
                f"--calibImages: pictures are prepared as float32 {shape_text(wanted)}, the network's input "
                f"{tensor.name} is {tensor.dtype} {network}; correct `input` in the model file or --optShapes, or "
                "take --int8Method=qdq"
            )
        return network[0]

    def _add_profile(self, config: Any) -> dict[str, Shape]:
        """Of every input with free sizes the shape that the engine is best for."""
        profile = self._builder.create_optimization_profile()
        best: dict[str, Shape] = {}
        names = set()
        for index in range(self._network.num_inputs):
            tensor = self._network.get_input(index)
            names.add(tensor.name)
            shape = tuple(tensor.shape)
            if -1 not in shape:
                require_as_fixed(tensor.name, shape, self._options.shapes)
                continue
            chosen = profile_for(tensor.name, shape, self._options.shapes, one_picture(shape, self._spec))
            profile.set_shape(tensor.name, chosen.smallest, chosen.best, chosen.largest)
            best[tensor.name] = chosen.best
        unknown = sorted(set(self._options.key_shapes()) - names)
        if unknown:
            raise PerceptionError(
                f"shapes were given for {', '.join(unknown)}; the network's inputs are {', '.join(sorted(names))}"
            )
        if best:
            config.add_optimization_profile(profile)
            if self._trt.dialect.profile_sharing == "asked":
                config.set_preview_feature(getattr(self._library.PreviewFeature, PROFILE_SHARING), True)
        return best

    def _keep_in_fp32(self) -> None:
        """Both the arithmetic and what it writes: a result that is rounded on its way out has gained nothing."""
        if not self._source.fp32_tensors:
            return
        single = self._library.DataType.FLOAT
        for index in range(self._network.num_layers):
            layer = self._network.get_layer(index)
            outputs = [layer.get_output(position) for position in range(layer.num_outputs)]
            if any(tensor.name in self._source.fp32_tensors and tensor.dtype == single for tensor in outputs):
                layer.precision = single
                for position in range(layer.num_outputs):
                    layer.set_output_type(position, single)

    def _constrain_layers(self) -> None:
        wanted = dict(self._options.layer_precisions)
        for index in range(self._network.num_layers):
            layer = self._network.get_layer(index)
            precision = wanted.pop(layer.name, None)
            if precision is not None:
                layer.precision = getattr(self._library.DataType, _DATA_TYPES[precision])
        if wanted:
            raise PerceptionError(
                f"--layerPrecisions: the network has no layer {', '.join(sorted(wanted))}; names are those of the "
                "ONNX nodes"
            )

    def _load_timings(self, config: Any) -> None:
        path = self._options.timing_cache_file
        if path is None:
            return
        known = path.read_bytes() if path.is_file() else b""
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, False):
            LOG.warning("%s holds timings of another TensorRT or GPU; it is written anew", path)
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def _keep_timings(self, config: Any) -> None:
        path = self._options.timing_cache_file
        if path is not None:
            try:
                write_atomically(path, bytes(memoryview(config.get_timing_cache().serialize())))
            except WriteError as error:
                # The engine is there, and worth more than the time that the next build could have saved.
                LOG.warning("%s", error)


def _release(_: object) -> None:
    """Keeps its argument alive until the stack it was pushed on is closed."""
