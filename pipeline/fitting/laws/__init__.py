"""The laws that can be fitted, by name."""

from pipeline.fitting.laws.chinchilla import Chinchilla, NoOffset, Tied
from pipeline.fitting.laws.joined import Interaction, Kaplan, QForm
from pipeline.fitting.laws.law import Law, log_losses
from pipeline.fitting.laws.one_variable import BrokenC, BrokenD, BrokenN, SaturatingC, SaturatingD, SaturatingN
from pipeline.fitting.laws.regimes import DataConstrained, OverTraining, TwoRecipes

LAWS: dict[str, type[Law]] = {
    law.name: law
    for law in (
        Chinchilla,
        Tied,
        NoOffset,
        QForm,
        Kaplan,
        Interaction,
        SaturatingN,
        SaturatingD,
        SaturatingC,
        BrokenN,
        BrokenD,
        BrokenC,
        DataConstrained,
        OverTraining,
        TwoRecipes,
    )
}
"""Name -> law."""

__all__ = [
    "LAWS",
    "BrokenC",
    "BrokenD",
    "BrokenN",
    "Chinchilla",
    "DataConstrained",
    "Interaction",
    "Kaplan",
    "Law",
    "NoOffset",
    "OverTraining",
    "QForm",
    "SaturatingC",
    "SaturatingD",
    "SaturatingN",
    "Tied",
    "TwoRecipes",
    "log_losses",
]
