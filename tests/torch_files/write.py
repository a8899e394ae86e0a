"""Writes the files of this folder, with torch 2.13 in another environment: the tests read them without torch."""

import pathlib

import torch

FOLDER = pathlib.Path(__file__).parent
LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, -1, 2])

for name, content in {
    "dict.pt": {"logits": LOGITS, "labels": LABELS},
    "tuple.pt": (LOGITS.bfloat16(), LABELS.int()),
    "strided.pth": {"preds": LOGITS.T.contiguous().T.requires_grad_(), "y": LABELS, "epoch": 3, "name": "x"},
    "tensor.pt": LOGITS.half(),
    "labels.pt": LABELS,
    "module.pt": torch.nn.Linear(2, 2),
}.items():
    torch.save(content, FOLDER / name)
torch.save({"logits": LOGITS, "labels": LABELS}, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
