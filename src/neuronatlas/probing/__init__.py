"""From labelled text to salient neurons (Linguistic Correlation Analysis, Durrani et al. 2023)."""
