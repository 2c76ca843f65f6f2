"""Encoders: ONNX files that turn RGB patches into embeddings, and the builders of those that ship."""
