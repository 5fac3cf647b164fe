"""What a program takes, and how a request's inputs or messages become that."""
