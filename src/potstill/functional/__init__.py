"""Pure mathematics: tensors in, tensors out, no state. Nothing here knows of terms or models."""
