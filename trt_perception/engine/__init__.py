"""Builds TensorRT engines: options as trtexec names them, a cache with reasons, INT8 and FP16 on every version."""
