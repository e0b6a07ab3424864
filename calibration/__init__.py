"""FP32 ONNX -> ranges -> Q/DQ ONNX."""
