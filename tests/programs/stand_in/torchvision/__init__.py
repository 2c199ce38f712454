"""A stand-in for torchvision, which has no CPU build: scikit-learn's digits in the place of MNIST."""
