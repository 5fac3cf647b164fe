"""The seeds' other spellings: thin names for what the rest of the package does."""
