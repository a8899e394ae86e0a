"""Your own images: a small network that trains in minutes on a few thousand of them.

Variants   the methods of docs/methods.md:   --config=configs/own.py:mixup
Command    python -m mixup_jax.main --config=configs/own.py:mixup --config.data.name=folder:PATH --workdir=runs/own
Evaluate   python -m mixup_jax.evaluate --workdir=runs/own

docs/own-images.md goes through it.  All numbers are ours, for photographs and two CPU cores.  What to change first:
  data.image_size   64 pixels; the size of your images if they are smaller, 128 or more with an accelerator
  model.width       32; 64 with an accelerator.  Set --config.model.stem=cifar for images below 64 pixels, and for every
                    network that is not a ResNet: these have no other stem
  epochs            30; more for fewer images

Cost       142 images a second, measured on two cores that other work used too: 10 minutes for 3,000 images.
"""

from ml_collections import ConfigDict

from mixup_jax.recipes import recipe


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a method, by its name."""
    config = recipe("own", name)
    config.epochs = 30
    config.batch_size = 32
    config.log_every_steps = 10

    config.data.name = ""
    config.data.validation_examples = 0
    config.data.image_size = 64
    config.data.crop_padding = 8

    config.model.name = "resnet18"
    config.model.width = 32
    config.model.stem = "imagenet"

    config.optimizer.learning_rate = 0.05
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 1.0

    config.evaluation.ood = ("gaussian_noise",)
    return config
