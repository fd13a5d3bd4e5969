"""Fine-tuned children of a model: made from a labelled corpus, kept in a folder, loaded beside their base."""
