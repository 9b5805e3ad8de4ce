"""Making a trained student smaller, with the teacher watching. The extra `compress`.

Channels (`pruning.py`, `importance.py`, `weight.py`): `prune_to(model, example, most=…, weigh=…)`
gives a narrower copy of a model, `importance=` says by what channels are compared.
`potstill.models.pruned` describes the result, so that config and weights rebuild it. Training
between steps, and all ways together, are the pipeline's (`potstill.pipeline.compression`).

Int8 (`qat.py`, `fake_quantised.py`, `quantised_files.py`):

```python
student = calibrated(model, train)  # after training: ranges only
done = train_quantised(  # with the teacher watching; without one: plain QAT
    model, teacher, train=train, validation=validation, objective=KD(temperature=4), settings=short
)
export_onnx(done.student.converted(), sample, path)  # QDQ, any batch, integer kernels
save_quantised(done.student, config, folder)  # `load_model` reads the float weights of it too
```

`done.student` is a `FakeQuantised` module: evaluate it like any student, it answers as int8 would.
"""
