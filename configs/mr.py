"""MR (sentences of film reviews, two classes) with Kim's sentence CNN: the paper's experiment on this data set.

Placeholder
"""

from ml_collections import ConfigDict

from mixup_jax.config import apply_variant, base_config


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a variant, a name of `method.VARIANTS`."""
    config = base_config()
    config.experiment = f"mr/{name}"

    config.epochs = 25
    config.batch_size = 50

    config.data.name = "mr"
    config.data.validation_examples = 950
    config.data.crop_padding = 0
    config.data.flip = False
    config.data.max_tokens = 60
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

    config.evaluation.ood = ("amazon_snippets", "nyt_snippets", "tweets", "random_tokens")
    apply_variant(config, name, dropout=0.5)
    return config
