"""The categories of ShapeNetPart and their parts, for the source that reads its files and for the
tables of published checkpoints."""

from __future__ import annotations

from typing import Final, NamedTuple


class Category(NamedTuple):
    """A category of ShapeNetPart.

    Attributes:
        synset: its WordNet number, which its folder is called by.
        name: as `synsetoffset2category.txt` has it.
        parts: numbers of its parts, which go on from category to category.
    """

    synset: str
    name: str
    parts: range


#: in the order of their class numbers
CATEGORIES: Final = (
    Category("02691156", "Airplane", range(0, 4)),
    Category("02773838", "Bag", range(4, 6)),
    Category("02954340", "Cap", range(6, 8)),
    Category("02958343", "Car", range(8, 12)),
    Category("03001627", "Chair", range(12, 16)),
    Category("03261776", "Earphone", range(16, 19)),
    Category("03467517", "Guitar", range(19, 22)),
    Category("03624134", "Knife", range(22, 24)),
    Category("03636649", "Lamp", range(24, 28)),
    Category("03642806", "Laptop", range(28, 30)),
    Category("03790512", "Motorbike", range(30, 36)),
    Category("03797390", "Mug", range(36, 38)),
    Category("03948459", "Pistol", range(38, 41)),
    Category("04099429", "Rocket", range(41, 44)),
    Category("04225987", "Skateboard", range(44, 47)),
    Category("04379243", "Table", range(47, 50)),
)
