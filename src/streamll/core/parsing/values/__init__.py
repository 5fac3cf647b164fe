"""Values of typed fields while they arrive: readers of JSON and of XML elements."""
