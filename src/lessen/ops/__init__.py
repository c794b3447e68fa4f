"""Pure tensor maths, the compressed layers, how models are told apart and stored, and the training loop."""
