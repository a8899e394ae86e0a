"""ImageNet (ILSVRC 2012) with ResNet-50 or ResNeXt-101 32x4d: the paper's largest experiment.

Paper      Thulasidasan et al., "On Mixup Training", NeurIPS 2019 (arXiv 1905.11001).
Variants   the methods of docs/methods.md:   --config=configs/imagenet.py:mixup
Data       python -m mixup_jax.data imagenet2012 dtd    (docs/data.md: which files to put where)
Command    python -m mixup_jax.main --config=configs/imagenet.py --workdir=runs/imagenet-mixup-0
           and for the other network of the paper   --config.model.name=resnext101_32x4d
           on several machines, one command each    --distributed, or as docs/distributed.md says
Evaluate   python -m mixup_jax.evaluate --workdir=runs/imagenet-mixup-0

Where the numbers are from
  The paper, as its readers report it: both networks; synchronous SGD on 32 GPUs; the learning rates of Goyal et al.
  (2017, arXiv 1706.02677); trained to about 93 % top-5 accuracy.
  Goyal et al.: SGD with Nesterov momentum 0.9; weight decay 1e-4, not of batch normalisation; 0.1 x batch / 256 as
  learning rate, reached from 0.1 within 5 epochs, lowered tenfold at epochs 30, 60 and 80, and 90 epochs in all; 32
  images a GPU, so 1,024 here; the last normalisation of every block starts at 0; crops of 8 % to 100 % of the
  area (aspect 3/4 to 4/3) brought to 224 pixels, and mirrors; evaluation on the middle 224 of 256 pixels.
  Not in the paper as far as is known: alpha. 0.2 is that of mixup's authors for ImageNet (Zhang et al. 2018), and
  at the same time the lower end of the range that the paper found best.
  Different: batch statistics are those of the whole batch, not of a GPU's 32 images; lambda is drawn for groups of
  128 images, not for each GPU's 32 (--config.method.group_size=32 does that); biases are spared by weight decay
  as well; convolutions and products compute in bfloat16, which is what accelerators are fast at.
  Ours: 10,000 training images are held out, so that the best epoch and the temperature are not chosen on the test
  set, which for ImageNet is the split called "validation": its test labels are not public. Out of distribution:
  10,000 images of Gaussian noise, which take 6 GB of the host's memory, and textures (dtd).

Another batch   --config.batch_size=N --config.optimizer.learning_rate=R with R = 0.1 x N / 256.
Expected   The paper prints no numbers: mixup about 0.4 points more accurate than the rest; on ResNeXt-101 the best
           calibrated, on ResNet-50 second to label smoothing. For comparison, ResNet-50 in Google's Uncertainty
           Baselines without mixup: accuracy 76.2 %, ECE 0.032. Their 77.7 % and 0.028 with it are no reference for
           plain mixup: the logits are rescaled after 200 epochs of it (Carratino et al. 2020), which is not done
           here. Plain mixup at alpha 0.2, 100 epochs, in OpenMixup: 77.1 % against 76.8 %, without an ECE.
           Not yet run by this project.
Cost       90 epochs of 1.27 million images. JPEG decoding takes 5 to 10 ms a photograph and core: the hosts
           need about one core for every 100 to 200 images a second that the accelerators take.
"""

from ml_collections import ConfigDict

from mixup_jax.recipes import recipe


def get_config(name: str = "mixup") -> ConfigDict:
    """Returns the config of a method, by its name."""
    config = recipe("imagenet", name)
    config.epochs = 90
    config.batch_size = 1024

    config.data.name = "imagenet2012"
    config.data.validation_examples = 10_000
    config.data.crop = "random_resized"
    config.data.crop_padding = 0
    config.data.flip = True

    config.model.name = "resnet50"
    config.model.width = 64
    config.model.stem = "imagenet"
    config.model.zero_init_residual = True
    config.model.dtype = "bfloat16"

    config.optimizer.learning_rate = 0.4
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norm_and_bias = False
    config.optimizer.schedule = "steps"
    config.optimizer.step_epochs = (30, 60, 80)
    config.optimizer.step_factor = 0.1
    config.optimizer.warmup_epochs = 5.0
    config.optimizer.warmup_start = 0.1

    config.evaluation.ood = ("gaussian_noise", "dtd")
    config.evaluation.batch_size = 512
    return config
