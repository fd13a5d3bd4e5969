"""From labelled sentences to an atlas of the neurons that carry each property."""
