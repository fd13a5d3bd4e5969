"""The questions of Durrani, Dalvi and Sajjad (2023), asked of several models on the same labelled sentences."""
