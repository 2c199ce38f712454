"""The three transforms that the guide's program uses."""


class ToTensor:
    """Leave a tensor as it is: the data set gives tensors."""

    def __call__(self, image):
        return image


class Normalize:
    """Subtract the mean and divide by the deviation."""

    def __init__(self, mean, deviation):
        self.mean, self.deviation = mean[0], deviation[0]

    def __call__(self, image):
        return (image - self.mean) / self.deviation


class Compose:
    """One transform after the other."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, image):
        for step in self.steps:
            image = step(image)
        return image
