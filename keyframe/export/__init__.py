"""A trained model as a file that other software runs: frames in, scores out, a card beside it.

`make.Exporter` writes files, and `model.ExportedModel` scores videos with one. What only uses an ONNX file
(`formats`, `card`, `load`, `model`) imports no torch.
"""
