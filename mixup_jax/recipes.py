"""What config files of the same kind share; their headers say where each number is from."""

from ml_collections import ConfigDict

from mixup_jax.config import apply_variant, base_config


def recipe(experiment: str, name: str) -> ConfigDict:
    """Returns all settings with their defaults, except the name of the experiment and the numbers of a named method."""
    config = base_config()
    config.experiment = f"{experiment}/{name}"
    apply_variant(config, name)
    return config


def paper_images(experiment: str, name: str) -> ConfigDict:
    """Returns the paper's recipe for small images: 200 epochs of SGD at batch 128, with crops and mirrors."""
    config = recipe(experiment, name)
    config.epochs = 200
    config.batch_size = 128

    config.data.validation_examples = 5000
    config.data.crop_padding = 4
    config.data.flip = True

    config.model.width = 64

    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "steps"
    config.optimizer.step_epochs = (60, 120, 160)
    config.optimizer.step_factor = 0.2
    return config


def kim_sentences(experiment: str, name: str) -> ConfigDict:
    """Returns Kim's recipe for his sentence CNN: 25 epochs of Adadelta at batch 50, dropout 0.5 with every method."""
    config = recipe(experiment, name)
    config.epochs = 25
    config.batch_size = 50

    config.data.crop_padding = 0
    config.data.flip = False
    config.data.vectors = "glove_6b_50d"
    config.data.vector_size = 50

    config.model.name = "text_cnn"
    config.model.width = 100
    config.model.filter_widths = (3, 4, 5)
    config.model.dropout = 0.5

    config.optimizer.name = "adadelta"
    config.optimizer.learning_rate = 1.0
    config.optimizer.weight_decay = 0.0
    config.optimizer.max_norm = 3.0
    config.optimizer.schedule = "steps"
    config.optimizer.step_epochs = ()
    return config
