"""Our own seeded grammar of tiny stories, in English and Spanish, with a known entropy."""
