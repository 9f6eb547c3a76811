"""What running an ONNX file takes: the library, its options, and tensors bound to memory that stays."""
