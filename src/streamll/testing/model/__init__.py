"""The built-in practice model: reads a prompt as a model does and answers in the shape it asks for."""
