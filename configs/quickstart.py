"""The smallest run that shows what mixup is about: minutes on two CPU cores.  `make run` runs it.

Variants   erm, mixup, label_smoothing, erl:   --config=configs/quickstart.py:mixup
"""

from ml_collections import ConfigDict

from mixup_jax.config import base_config, to_dict
from mixup_jax.method import variant

NOTES = ""


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a variant: erm, mixup, label_smoothing or erl."""
    config = base_config()
    config.experiment = f"quickstart/{name}"
    config.notes = NOTES
    config.method = ConfigDict(to_dict(variant(name)))

    config.epochs = 25
    config.batch_size = 64
    config.log_every_steps = 10

    config.data.name = "fashion_mnist"
    config.data.train_examples = 2500
    config.data.validation_examples = 2000
    config.data.crop_padding = 0
    config.data.flip = False

    config.model.name = "resnet8"
    config.model.width = 16

    config.optimizer.schedule = "cosine"

    config.evaluation.every_epochs = 5
    config.evaluation.ood = ("mnist", "gaussian_noise")
    return config
