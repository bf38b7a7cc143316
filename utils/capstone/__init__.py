"""The capstone: what an entry is given. (Who scores it is in the modules beside this one.)"""

from utils.capstone.contract import (
    Settings,
    labels_of,
    language_model,
    option_sums,
    public_of,
    records_of,
)

__all__ = ["Settings", "labels_of", "language_model", "option_sums", "public_of", "records_of"]
