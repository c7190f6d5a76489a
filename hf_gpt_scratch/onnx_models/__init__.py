"""
Models in the ONNX format, run by onnxruntime without torch's weights:

    graph     `Graph`: an ONNX file, torch tensors in and out
    model     `load_onnx`: a language model or a classifier that the rest of the package takes as its own
"""
