"""torch -> ONNX -> engines -> what goes to the device."""
