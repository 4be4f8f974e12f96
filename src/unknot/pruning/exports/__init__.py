"""A model as one file for other programs, written only where it computes what the model computes.

`onnx` is for ONNX Runtime (`export_onnx`), `program` for torch without unknot (`export_program`);
`parity` has what both prove themselves by.
"""
