"""How close models are to the original that taught them: answers, calibration, features, and where they look."""
