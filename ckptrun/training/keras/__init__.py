"""Checkpoints of a Keras training, with Keras 2 and 3 (on TensorFlow, JAX or PyTorch), that resume in the middle of an epoch.

    from ckptrun.training.keras import checkpoints_in

    checkpoints = checkpoints_in("checkpoints")
    checkpoints.fit(model, images, labels, epochs=20, batch_size=32)  # in place of model.fit(images, labels, ...)
    if checkpoints.stopped:
        sys.exit()
    checkpoints.done()

Rules of this folder. It imports `ckptrun`, Keras and NumPy, nothing else of ckptrun, so that the folder `training` and that one
module are all that a container needs; Keras and NumPy are imported when they are used. A checkpoint is one `.npz` file of arrays,
`FOLDER/step-0000012.npz`, the step being the batches that are done: it is read by every version of NumPy, and nothing in it is
executed. Where several processes train together all of them make every call, in the same order; one writes.
"""

from ckptrun.training.keras.callback import checkpoints_in

__all__ = ["checkpoints_in"]
