"""Facts to knowledge neurons: attribution, refining, interventions."""
