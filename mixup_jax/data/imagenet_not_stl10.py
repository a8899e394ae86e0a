"""The classes of ImageNet that are not among STL-10's, for the paper's out-of-distribution experiment.

The paper takes "ImageNet classes not in STL-10" and does not list them.  The rule here: left out is every
class of ILSVRC 2012 whose WordNet synset lies under one of

    airplane, bird, car, cat ("true cat"), deer, dog, horse, monkey, truck, and for STL-10's ship the wider
    "vessel, watercraft", since boats are labelled as ships;

and five more that show an airplane or a car though WordNet files them elsewhere: warplane, wing; car mirror,
car wheel, grille.  Big cats (lion, ...), wild dogs (dingo, ...), zebra, apes and lemurs stay: they are other
synsets.  ILSVRC 2012 has no deer.  Labels are those of tensorflow-datasets: synset ids in alphabetical order.
"""

from __future__ import annotations

ALIKE: dict[str, tuple[range | int, ...]] = {
    "airplane": (404, 895, 908),
    "bird": (range(7, 25), range(80, 101), range(127, 147)),
    "car": (407, 436, 468, 475, 479, 511, 581, 609, 627, 656, 661, 751, 817),
    "cat": (range(281, 288),),
    "deer": (),
    "dog": (range(151, 269),),
    "horse": (339,),
    "monkey": (range(370, 383),),
    "ship": (403, 472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 833, 871, 913, 914),
    "truck": (555, 569, 675, 717, 734, 864, 867),
}
"""STL-10's class -> the labels of ImageNet that are left out for it."""


def kept_labels() -> tuple[int, ...]:
    """Returns the labels, of 0 to 999, that are not in STL-10."""
    alike = {
        label for parts in ALIKE.values() for part in parts for label in ((part,) if isinstance(part, int) else part)
    }
    return tuple(label for label in range(1000) if label not in alike)
