"""MNIST's place is taken by scikit-learn's 1,797 digits of 8x8, enlarged to 28x28."""

import os
import time

import numpy
import torch


class MNIST(torch.utils.data.Dataset):
    """Digits as MNIST gives them: an image of 1x28x28 in [0, 1] and a label."""

    def __init__(self, root, train=True, download=False, transform=None):
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = numpy.pad(numpy.kron(digits.images / 16.0, numpy.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
        self.images = torch.tensor(images, dtype=torch.float32).unsqueeze(1)
        self.labels = [int(label) for label in digits.target]
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, place):
        time.sleep(float(os.environ.get("STAND_IN_SECONDS_AN_ITEM", "0")))  # digits are read faster than MNIST from a disk
        return self.transform(self.images[place]), self.labels[place]
