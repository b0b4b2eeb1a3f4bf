"""Local Kaggle: the part of Kaggle that a chain of sessions touches, on this machine."""
