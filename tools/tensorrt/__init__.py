"""Tools around TensorRT's own wheels."""
