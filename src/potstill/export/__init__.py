"""What is shipped: the student as an ONNX file, the proof that it answers alike, the model card.

    onnx     write the file          parity   compare its answers with the student's
    card     README.md of a model    shipped  what a file computes
    pretrained  a folder that Transformers opens
    int8     the file in 8 bits      naming   its nodes after the layers
    translator  encoder-decoders as two files, and who writes texts with them

Only `card` does without torch.
The caller writes `parity.json` and removes a file that failed.
"""
