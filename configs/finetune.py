"""Fine-tuning a ResNet-18 with a modern recipe, from weights of torchvision or timm.

Variants   the methods of docs/methods.md:   --config=configs/finetune.py:mixup
Command    python -m mixup_jax.main --config=configs/finetune.py:mixup --workdir=runs/tuned --config.model.weights=FILE
           on your own images: --config.data.name=folder:PATH (docs/fine-tuning.md)
Evaluate   python -m mixup_jax.evaluate --workdir=runs/tuned

Where the numbers are from
  AdamW at 1e-3 with decay 0.05, a tenth of that rate below the head, two epochs of warm-up and a cosine are common
  practice for a pre-trained network of this size, not the result of a search.  So are TrivialAugment, erasing of a
  quarter of the images (torchvision's new recipe has a tenth), clipping at 1 and the moving average.
  The padding and the stem are those that the weights were trained with.
  STL-10 has 5,000 labelled images of 96 x 96 pixels, of which 500 are held out: a set for which weights from elsewhere
  matter.

Expected   nothing is published here: real weights could not be had where this was written.
"""

from ml_collections import ConfigDict

from mixup_jax.recipes import recipe


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a method, by its name."""
    config = recipe("finetune", name)
    config.epochs = 30
    config.batch_size = 128

    config.data.name = "stl10"
    config.data.validation_examples = 500
    config.data.policy = "trivialaugment"
    config.data.erase = 0.25
    config.data.statistics = "imagenet"

    config.model.name = "resnet18"
    config.model.stem = "imagenet"
    config.model.padding = "torch"

    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.backbone_rate = 0.1
    config.optimizer.weight_decay = 0.05
    config.optimizer.decay_norm_and_bias = False
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 2.0
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema = 0.99

    config.evaluation.ood = ("gaussian_noise",)
    return config
