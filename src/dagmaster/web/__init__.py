"""What all HTTP faces share: problem+json, limits, who is asking."""
